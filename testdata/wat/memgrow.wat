;; memory.grow between awaits; the new pages are written, a refused growth leaves all as it was.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1 6)

  (func $mark (param $x i32)
    (local $last i32)
    (local.set $last (i32.sub (i32.mul (memory.size) (i32.const 0x10000)) (i32.const 4)))
    (i32.store (local.get $last) (local.get $x)))

  (func $sum (result i32)
    (local $p i32) (local $h i32)
    (loop $each
      (local.set $p (i32.add (local.get $p) (i32.const 0x10000)))
      (local.set $h
        (i32.add
          (i32.mul (local.get $h) (i32.const 31))
          (i32.load (i32.sub (local.get $p) (i32.const 4)))))
      (br_if $each (i32.lt_u (local.get $p) (i32.mul (memory.size) (i32.const 0x10000)))))
    (local.get $h))

  (func (export "main") (result i32)
    (local $h i32)
    (call $mark (i32.const 1))
    (call $checkpoint)
    (local.set $h (memory.grow (i32.const 1)))
    (call $mark (i32.const 22))
    (call $checkpoint)
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (memory.grow (i32.const 3))))
    (call $checkpoint)
    (call $mark (i32.const 333))
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (memory.grow (i32.const 9))))
    (call $checkpoint)
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (memory.grow (i32.const 1))))
    (call $checkpoint)
    (call $mark (i32.const 4444))
    (call $checkpoint)
    (i32.xor
      (i32.add (i32.mul (local.get $h) (i32.const 31)) (memory.size))
      (call $sum))))
