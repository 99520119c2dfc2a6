;; Passive data segments: memory.init and data.drop on both sides of awaits, memory.fill and memory.copy too.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (data $active (i32.const 16) "active segment")
  (data $one "first passive segment")
  (data $two "second")

  (func $hash (result i64)
    (local $p i32) (local $h i64)
    (loop $each
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (i64.load8_u (local.get $p))))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $p) (i32.const 256))))
    (local.get $h))

  (func (export "main") (result i64)
    (local $h i64)
    (memory.init $one (i32.const 64) (i32.const 6) (i32.const 7))
    (call $checkpoint)
    (local.set $h (call $hash))
    (memory.init $one (i32.const 80) (i32.const 0) (i32.const 21))
    (data.drop $one)
    (call $checkpoint)
    (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $hash)))
    ;; nothing from a dropped segment is still in bounds
    (memory.init $one (i32.const 0) (i32.const 0) (i32.const 0))
    (memory.init $two (i32.const 120) (i32.const 0) (i32.const 6))
    (call $checkpoint)
    (memory.fill (i32.const 16) (i32.const 0x2a) (i32.const 5))
    (memory.copy (i32.const 122) (i32.const 120) (i32.const 6))
    (call $checkpoint)
    (memory.init $two (i32.const 200) (i32.const 3) (i32.const 3))
    (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $hash))))
