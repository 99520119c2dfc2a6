;; Locals of all number types: parameters overwritten, values live over some awaits and dead over others, defaults never
;; set, NaN payloads, negative zero, and a select between two values that were computed across an await.
(module
  (import "durun" "checkpoint" (func $checkpoint))

  (func $busy (param $p i32) (param $q i64) (param $r f32) (param $s f64) (result i64)
    (local $zero i32) (local $zero64 i64) (local $dead i64)
    (local $nan f32) (local $nan64 f64) (local $minus f64) (local $t i32) (local $u i64)
    (local.set $nan (f32.reinterpret_i32 (i32.const 0x7fa00042)))
    (local.set $nan64 (f64.reinterpret_i64 (i64.const 0xfff0000000000777)))
    (local.set $minus (f64.const -0))
    (local.set $dead (i64.const 0xdead))
    (call $checkpoint)
    (local.set $dead (i64.add (local.get $q) (i64.const 1)))
    (local.set $p (i32.sub (local.get $p) (i32.const 1)))
    (local.set $q (i64.mul (local.get $q) (i64.const 3)))
    (call $checkpoint)
    (local.set $r (f32.mul (local.get $r) (f32.const 0.1)))
    (local.set $s (f64.sqrt (local.get $s)))
    (call $checkpoint)
    (local.set $t (local.tee $p (i32.add (local.get $p) (local.get $zero))))
    (local.set $u
      (select
        (i64.add (local.get $q) (local.get $dead))
        (i64.sub (local.get $q) (local.get $zero64))
        (i32.and (local.get $t) (i32.const 1))))
    (call $checkpoint)
    (if (i32.gt_s (local.get $p) (i32.const 0))
      (then
        (local.set $u
          (i64.xor
            (local.get $u)
            (call $busy (local.get $p) (local.get $q) (local.get $r) (local.get $s))))))
    (i64.mul (local.get $u) (i64.const 31))
    (i64.add (i64.extend_i32_u (i32.reinterpret_f32 (local.get $r)))) (i64.mul (i64.const 31))
    (i64.add (i64.reinterpret_f64 (local.get $s))) (i64.mul (i64.const 31))
    (i64.add (i64.extend_i32_u (i32.reinterpret_f32 (local.get $nan)))) (i64.mul (i64.const 31))
    (i64.add (i64.reinterpret_f64 (local.get $nan64))) (i64.mul (i64.const 31))
    (i64.add (i64.reinterpret_f64 (local.get $minus))))

  (func (export "main") (result i64)
    (call $busy (i32.const 5) (i64.const 0x123456789) (f32.const 1.7) (f64.const 12345.678))))
