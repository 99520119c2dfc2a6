;; Operands below a call: constants and locals that aren't written are pushed again by the cold path, others are spilled.
;; The result of one site is an operand of the next.
(module
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory 1)
  (global $g (mut i64) (i64.const 3))
  (func $mixed (export "mixed") (param $x i64) (param $y f32) (result i64)
    (i64.add
      (i64.const 11)
      (i64.add
        (local.get $x)
        (i64.add
          (global.get $g)
          (i64.extend_i32_u
            (i32.add
              (call $yield (i32.const 0) (i32.const 0))
              (i32.add
                (i32.trunc_sat_f32_s (local.get $y))
                (call $yield (i32.const 0) (i32.const 1)))))))))
  ;; $x is written between push and pop: in a straight line, behind a branch, in a loop.
  (func $written (export "written") (param $x i32) (result i32)
    (local.get $x)
    (if (call $yield (i32.const 0) (i32.const 0)) (then (local.set $x (i32.const 9))))
    (local.get $x)
    (loop (local.set $x (i32.add (local.get $x) (i32.const 1)))
      (br_if 0 (call $yield (i32.const 0) (i32.const 0))))
    (i32.sub))
  ;; Popped before it is written.
  (func $unwritten (export "unwritten") (param $x i32) (result i32)
    (i32.add (local.get $x) (call $yield (i32.const 0) (i32.const 0)))
    (local.set $x (i32.const 1))
    (i32.add (local.get $x))))
