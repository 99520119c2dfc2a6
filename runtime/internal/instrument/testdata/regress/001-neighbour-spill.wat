;; Two operands below a call, pushed one after the other, that both need a spill local: the second got none (planSpills
;; stepped over the operand behind each that it had dealt with), and came back as 0.
(module
  (import "lab" "pause" (func $pause))
  (memory (export "memory") 1)
  (global $n (export "g0") (mut i32) (i32.const 5))
  (func (export "main") (result i32)
    (i32.and (global.get $n) (i32.const 4))
    (global.get $n)
    (call $pause)
    (i32.store)
    (i32.load (i32.const 4))))
