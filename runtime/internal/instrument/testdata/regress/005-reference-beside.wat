;; A call returns a reference that can't be null on top of a number, which stays below a later call: the spill local of the
;; reference, which nobody needs, has no default value.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func))
  (elem declare func $f)
  (func $f (type $t))
  (func $pair (param i32) (result i32 (ref $t)) (local.get 0) (ref.func $f))
  (func (export "main") (result i32)
    (loop (result i32)
      (call $pair (i32.const 3))
      (call_ref)
      (call $checkpoint))))
