;; A trap after an await, five frames down: integer divide by zero.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (func $down (param $n i32) (result i32)
    (call $checkpoint)
    (i32.div_u
      (i32.const 100)
      (if (result i32) (local.get $n)
        (then (call $down (i32.sub (local.get $n) (i32.const 1))))
        (else (i32.const 0)))))
  (func (export "main") (result i32) (call $down (i32.const 5))))
