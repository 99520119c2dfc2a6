;; A start function that suspends, twice in a nested call, before main may run.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (global $ready (mut i32) (i32.const 0))
  (start $init)

  (func $fill (param $from i32) (param $n i32)
    (loop $each
      (i32.store (local.get $from) (i32.mul (local.get $n) (i32.const 0x01010101)))
      (if (i32.eq (local.get $n) (i32.const 3)) (then (call $checkpoint)))
      (local.set $from (i32.add (local.get $from) (i32.const 4)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $each (local.get $n))))

  (func $init
    (call $fill (i32.const 256) (i32.const 10))
    (global.set $ready (i32.add (global.get $ready) (i32.const 1)))
    (call $checkpoint)
    (call $fill (i32.const 296) (i32.const 5))
    ;; a start function that ran twice would be seen here
    (global.set $ready (i32.mul (global.get $ready) (i32.const 10))))

  (func (export "main") (result i32)
    (local $p i32) (local $h i32)
    (local.set $h (global.get $ready))
    (local.set $p (i32.const 256))
    (loop $each
      (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (i32.load (local.get $p))))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (br_if $each (i32.lt_u (local.get $p) (i32.const 316))))
    (call $checkpoint)
    (local.get $h)))
