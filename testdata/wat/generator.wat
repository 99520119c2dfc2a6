;; The field's textbook generator: yields "1", "2", "3" and returns their sum, 6.
(module
  (import "durun" "yield" (func $yield (param $ptr i32) (param $len i32) (result i32)))
  (memory (export "memory") 1)

  (func (export "main") (result i32)
    (local $i i32) (local $sum i32)
    (loop $next
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (i32.store8 (i32.const 16) (i32.add (i32.const 0x30) (local.get $i)))
      (drop (call $yield (i32.const 16) (i32.const 1)))
      (local.set $sum (i32.add (local.get $sum) (local.get $i)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 3))))
    (local.get $sum)))
