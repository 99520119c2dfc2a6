;; v128 in locals, parameters, results and on the operand stack across awaits.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (data (i32.const 32) "\00\11\22\33\44\55\66\77\88\99\aa\bb\cc\dd\ee\ff")

  (func $double (param $v v128) (result v128)
    (call $checkpoint)
    (i32x4.add (local.get $v) (local.get $v)))

  (func $both (param $a v128) (param $n i32) (param $b v128) (result v128 i32 v128)
    (local $t v128)
    (local.set $t (i8x16.sub (local.get $a) (local.get $b)))
    (call $checkpoint)
    (v128.xor (local.get $a) (local.get $t))
    (i32.add (local.get $n) (i32.const 1))
    (call $checkpoint)
    (v128.or (local.get $b) (local.get $t)))

  (func $fold (param $v v128) (result i64)
    (i64.xor
      (i64x2.extract_lane 0 (local.get $v))
      (i64.mul (i64x2.extract_lane 1 (local.get $v)) (i64.const 0x9e3779b97f4a7c15))))

  (func (export "main") (result i64)
    (local $a v128) (local $b v128) (local $acc v128) (local $i i32) (local $h i64)
    (local.set $a (v128.const i64x2 0x0123456789abcdef 0xfedcba9876543210))
    (local.set $b (v128.load (i32.const 32)))
    (loop $again
      ;; three vectors on the operand stack while $double suspends
      (local.get $a)
      (local.get $b)
      (v128.not (local.get $acc))
      (call $double (local.get $a))
      (v128.bitselect)
      (i16x8.add)
      (local.set $acc)
      ;; a mixed list of results, the vectors among them
      (call $both (local.get $acc) (local.get $i) (i32x4.splat (local.get $i)))
      (local.set $b)
      (local.set $i)
      (local.set $a)
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $fold (local.get $acc))))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 5))))
    (v128.store (i32.const 64) (local.get $a))
    (call $checkpoint)
    (i64.add
      (local.get $h)
      (i64.add (call $fold (v128.load (i32.const 64))) (call $fold (local.get $b))))))
