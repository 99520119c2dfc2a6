;; A module without a memory suspends as well.
(module
  (import "durun" "checkpoint" (func $checkpoint))

  (func $ackermann (param $m i32) (param $n i32) (result i32)
    (if (i32.eqz (local.get $m))
      (then (return (i32.add (local.get $n) (i32.const 1)))))
    (if (i32.eqz (local.get $n))
      (then
        (call $checkpoint)
        (return (call $ackermann (i32.sub (local.get $m) (i32.const 1)) (i32.const 1)))))
    (call $ackermann
      (i32.sub (local.get $m) (i32.const 1))
      (call $ackermann (local.get $m) (i32.sub (local.get $n) (i32.const 1)))))

  (func $f (param $x f64) (param $y f32) (result f64)
    (f64.mul (local.get $x) (f64.const 1.5))
    (call $checkpoint)
    (f64.promote_f32 (local.get $y))
    (f64.add))

  (func (export "main") (result i64)
    (i64.extend_i32_u (call $ackermann (i32.const 2) (i32.const 3)))
    (i64.reinterpret_f64 (call $f (call $f (f64.const 1) (f32.const 0.1)) (f32.const 0.3)))
    (i64.add)))
