;; Awaits where they can't be reached, or only by one of two ways: after br, return and unreachable, in dead blocks, and
;; with a polymorphic operand stack.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory (export "memory") 1)

  (func $f (param $x i32) (result i32)
    (block $out (result i32)
      (call $checkpoint)
      (br $out (i32.const 3))
      (call $checkpoint)
      (i32.add)
      (call $yield)
      (loop (param i32) (result i32) (call $checkpoint) (br 0)))
    (if (param i32) (result i32) (local.get $x)
      (then
        (call $checkpoint)
        (return)
        (drop)
        (call $yield (i32.const 0)))
      (else
        (i32.const 4)
        (i32.mul)
        (call $checkpoint)))
    (block
      (br_if 0 (i32.const 1))
      (call $checkpoint)
      (unreachable)
      (call $checkpoint)
      (drop)))

  (func $never (result i64)
    (unreachable)
    (call $checkpoint)
    (select)
    (call $checkpoint))

  (func $sure (param $x i32) (result i64)
    (if (result i64) (local.get $x)
      (then (call $checkpoint) (i64.const 21))
      (else (call $never))))

  (func (export "main") (result i64)
    (i64.extend_i32_u (call $f (i32.const 1)))
    (i64.extend_i32_u (call $f (i32.const 0)))
    (i64.shl (i64.const 8))
    (i64.or)
    (i64.shl (call $sure (i32.const 1)) (i64.const 16))
    (i64.or)))
