;; Sites inside nests of block, loop, if and else, with code before, between and behind.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (func $nest (export "nest") (param $n i32) (param $a i32) (result i32)
    (local $i i32) (local $sum i32) (local $dead i32)
    (local.set $dead (i32.const 7))
    (block $out
      (loop $again
        (if (i32.and (local.get $i) (i32.const 1))
          (then
            (local.set $sum (i32.add (local.get $sum) (local.get $a)))
            (call $checkpoint)
            (br_if $out (i32.gt_u (local.get $sum) (i32.const 1000))))
          (else
            (loop $inner
              (call $checkpoint)
              (local.set $a (i32.add (local.get $a) (i32.const 1)))
              (br_if $inner (i32.and (local.get $a) (i32.const 3))))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (local.get $n)))))
    (if (local.get $sum) (then (call $checkpoint)))
    (local.get $sum)))
