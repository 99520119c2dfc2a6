;; br_table to blocks and to a loop that are reopened by a continuation, with a value, and to the function's end.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (func $table (export "table") (param $n i32) (result i32)
    (local $m i32)
    (block $a (result i32)
      (block $b (result i32)
        (loop $again
          (call $checkpoint)
          (block $c
            (br_table $c $again $c (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
          (call $checkpoint)
          (br_table $a $b 3 (i32.const 10) (local.get $n)))
        (unreachable))
      (call $checkpoint)
      (i32.add (i32.const 1)))
    (i32.mul (i32.const 2))))
