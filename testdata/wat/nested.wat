;; Blocks, loops and ifs inside one another, an await at each level, parameters and results on each.
(module
  (import "durun" "checkpoint" (func $checkpoint))

  ;; Returns its argument, having suspended.
  (func $via (param $x i32) (result i32)
    (call $checkpoint)
    (local.get $x))

  (func $tower (param $n i32) (result i32)
    (local $a i32) (local $b i32)
    (i32.const 1)
    (call $checkpoint)
    (block $b1 (param i32) (result i32)
      (call $via)
      (i32.const 2)
      (loop $l1 (param i32 i32) (result i32)
        (call $via)
        (i32.add)
        (local.set $a (i32.add (local.get $a) (i32.const 1)))
        (if (param i32) (result i32) (i32.and (local.get $a) (i32.const 1))
          (then
            (i32.const 3)
            (block $b2 (param i32 i32) (result i32)
              (call $checkpoint)
              (i32.mul)
              (local.set $b (i32.const 0))
              (loop $l2 (param i32) (result i32)
                (call $via)
                (i32.add (local.get $b))
                (local.set $b (i32.add (local.get $b) (i32.const 1)))
                (br_if $b2 (i32.gt_u (local.get $b) (local.get $n)))
                (if (param i32) (result i32) (call $via (i32.and (local.get $b) (i32.const 1)))
                  (then (call $via) (i32.const 5) (call $checkpoint) (i32.add))
                  (else (i32.const 7) (i32.xor) (call $via)))
                (br_if $l2 (i32.lt_u (local.get $b) (i32.const 4)))
                (block (param i32) (result i32)
                  (block (param i32) (result i32)
                    (call $checkpoint)
                    (br_if 1 (call $via (i32.and (local.get $n) (i32.const 1))))
                    (i32.const 11)
                    (i32.add)
                    (call $via))
                  (i32.const 13)
                  (i32.add)))))
          (else
            (call $via)
            (i32.const 17)
            (i32.sub)))
        (br_if $b1 (i32.gt_u (local.get $a) (i32.const 20)))
        (i32.const 19)
        (br_if $l1 (call $via (i32.lt_u (local.get $a) (local.get $n))))
        (i32.add)))
    (i32.mul (call $via (i32.const 23))))

  ;; A triangle of loops, suspending in the innermost, on the way out, and in the condition.
  (func $triangle (param $n i32) (result i32)
    (local $i i32) (local $j i32) (local $k i32) (local $h i32)
    (loop $outer
      (local.set $j (i32.const 0))
      (loop $middle
        (local.set $k (i32.const 0))
        (loop $inner
          (local.set $h
            (i32.add
              (i32.mul (local.get $h) (i32.const 5))
              (i32.sub
                (i32.mul (local.get $i) (local.get $j))
                (call $via (local.get $k)))))
          (local.set $k (i32.add (local.get $k) (i32.const 1)))
          (br_if $inner (i32.le_u (local.get $k) (local.get $j))))
        (call $checkpoint)
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $middle (i32.le_u (local.get $j) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $outer (call $via (i32.lt_u (local.get $i) (local.get $n)))))
    (local.get $h))

  (func (export "main") (result i64)
    (local $i i32) (local $h i64)
    (loop $each
      (local.set $h
        (i64.add
          (i64.mul (local.get $h) (i64.const 31))
          (i64.extend_i32_s (call $tower (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (i32.const 6))))
    (i64.xor (local.get $h) (i64.extend_i32_s (call $triangle (i32.const 4))))))
