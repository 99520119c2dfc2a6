;; Extended constant expressions in globals, data and element offsets.
(module
  (type $f (func (result i32)))
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (table 10 funcref)
  (global $a i32 (i32.add (i32.const 40) (i32.mul (i32.const 3) (i32.const 8))))
  (global $b (mut i64) (i64.sub (i64.mul (i64.const 0x100000000) (i64.const 5)) (i64.const 1)))
  (data (offset (i32.add (i32.const 100) (i32.const 28))) "extended")
  (elem (offset (i32.sub (i32.const 9) (i32.const 5))) $seven $eight)

  (func $seven (type $f) (call $checkpoint) (i32.const 7))
  (func $eight (type $f) (i32.const 8))

  (func (export "main") (result i64)
    (global.set $b (i64.add (global.get $b) (i64.extend_i32_u (global.get $a))))
    (call $checkpoint)
    (i64.mul (global.get $b) (i64.load (i32.const 128)))
    (i64.extend_i32_u (call_indirect (type $f) (i32.const 4)))
    (i64.extend_i32_u (call_indirect (type $f) (i32.const 5)))
    (i64.shl (i64.const 8))
    (i64.or)
    (i64.xor)))
