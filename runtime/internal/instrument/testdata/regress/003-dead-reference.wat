;; A parameter that can't be null and isn't live after the call: in the continuation it is a local without a value, and the
;; loop's copy reads it, though nothing branches back to the loop; nor can control come behind the block. The resume
;; module was invalid.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func))
  (elem declare func $f)
  (func $f (type $t))
  (func $loop (param $r (ref $t))
    (loop (call_ref (local.get $r)) (call $checkpoint)))
  (func $block (param $r (ref $t))
    (call $checkpoint)
    (block (br 1))
    (call_ref (local.get $r)))
  (func (export "loop") (call $loop (ref.func $f)))
  (func (export "block") (call $block (ref.func $f))))
