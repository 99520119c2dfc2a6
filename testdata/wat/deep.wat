;; A recursion of 20,000 frames that suspends at the bottom and at four places on the way out.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)

  (func $down (param $n i32) (param $x i64) (result i64)
    (local $keep i64)
    (if (i32.eqz (local.get $n)) (then (call $checkpoint) (return (local.get $x))))
    (local.set $keep (i64.xor (local.get $x) (i64.extend_i32_u (local.get $n))))
    (local.set $x
      (i64.add
        (call $down
          (i32.sub (local.get $n) (i32.const 1))
          (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
        (local.get $keep)))
    (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 5000))) (then (call $checkpoint)))
    (i64.rotl (local.get $x) (i64.const 1)))

  (func (export "main") (result i64)
    (call $down (i32.const 20000) (i64.const 1))))
