;; Mutual recursion over three functions, a tree of calls in which every node suspends, and main under a second name.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (global $visits (mut i32) (i32.const 0))

  (func $left (param $d i32) (param $path i64) (result i64)
    (global.set $visits (i32.add (global.get $visits) (i32.const 1)))
    (if (i32.eqz (local.get $d)) (then (call $checkpoint) (return (local.get $path))))
    (i64.mul
      (call $middle (i32.sub (local.get $d) (i32.const 1)) (i64.add (i64.mul (local.get $path) (i64.const 3)) (i64.const 1)))
      (call $right (i32.sub (local.get $d) (i32.const 1)) (i64.add (i64.mul (local.get $path) (i64.const 3)) (i64.const 2)))))

  (func $middle (param $d i32) (param $path i64) (result i64)
    (local $x i64)
    (global.set $visits (i32.add (global.get $visits) (i32.const 1)))
    (if (i32.eqz (local.get $d)) (then (return (i64.or (local.get $path) (i64.const 1)))))
    (local.set $x (call $left (i32.sub (local.get $d) (i32.const 1)) (i64.add (local.get $path) (i64.const 7))))
    (call $checkpoint)
    (i64.add (local.get $x) (call $right (i32.sub (local.get $d) (i32.const 1)) (local.get $x))))

  (func $right (param $d i32) (param $path i64) (result i64)
    (global.set $visits (i32.add (global.get $visits) (i32.const 1)))
    (call $checkpoint)
    (if (i32.eqz (local.get $d)) (then (return (i64.xor (local.get $path) (i64.const 0x33)))))
    (i64.sub
      (call $left (i32.sub (local.get $d) (i32.const 1)) (i64.rotl (local.get $path) (i64.const 5)))
      (i64.extend_i32_u (global.get $visits))))

  (func $main (result i64)
    (i64.add
      (call $left (i32.const 6) (i64.const 1))
      (i64.extend_i32_u (global.get $visits))))
  (export "main" (func $main))
  (export "again" (func $main)))
