;; A tail call leaves no frame: it is no site, and only its target's frame is kept.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory 1)
  (type $step (func (param i32 i64) (result i64)))
  (table 2 funcref)
  (elem (i32.const 0) $even $odd)
  (func $even (param $n i32) (param $sum i64) (result i64)
    (call $checkpoint)
    (if (i32.eqz (local.get $n)) (then (return (local.get $sum))))
    (return_call $odd (i32.sub (local.get $n) (i32.const 1)) (i64.add (local.get $sum) (i64.const 1))))
  (func $odd (param $n i32) (param $sum i64) (result i64)
    (if (i32.eqz (local.get $n)) (then (return (local.get $sum))))
    (return_call_indirect (type $step) (i32.sub (local.get $n) (i32.const 1)) (local.get $sum) (i32.const 0)))
  ;; The outermost frame may be another function's than the export's.
  (func (export "even") (param $n i32) (result i64)
    (return_call $even (local.get $n) (i64.const 0)))
  ;; No frame at all.
  (func (export "direct") (result i32) (return_call $yield (i32.const 0) (i32.const 0))))
