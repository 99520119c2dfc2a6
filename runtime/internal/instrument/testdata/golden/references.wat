;; References in functions that suspend, where none is live across a site: parameters of calls, dead locals, ref.func in
;; code that a continuation repeats, globals that don't change.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $v (func))
  (table $t 4 funcref)
  (elem (table $t) (i32.const 0) func $leaf)
  (elem declare func $leaf)
  (global $fixed funcref (ref.func $leaf))
  (func $leaf (call $checkpoint))
  (func $use (export "use") (param $n i32) (result i32)
    (local $r funcref)
    (local.set $r (table.get $t (local.get $n)))
    (if (ref.is_null (local.get $r)) (then (return (i32.const -1))))
    (loop $again
      (call_indirect $t (type $v) (i32.const 0))
      (local.set $r (ref.func $leaf))
      (drop (local.get $r))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.add (ref.is_null (ref.func $leaf)) (ref.is_null (global.get $fixed)))))
