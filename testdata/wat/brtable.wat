;; A bytecode loop around br_table with awaits in its arms: fall through, back edges, early exit, values carried.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  ;; 0 add 3, 1 double, 2 suspend then fall into 3, 3 xor, 4 jump back while the counter lasts, 5 end, more: suspend
  (data (i32.const 0) "\00\01\02\00\09\03\01\02\04\01\00\05")

  (func $run (param $pc i32) (param $left i32) (result i32)
    (local $acc i32) (local $op i32)
    (local.set $acc (i32.const 1))
    (block $end
      (loop $fetch
        (local.set $op (i32.load8_u (local.get $pc)))
        (local.set $pc (i32.add (local.get $pc) (i32.const 1)))
        (block $other
          (block $back
            (block $xor
              (block $wait
                (block $double
                  (block $add
                    (br_table $add $double $wait $xor $back $end $other (local.get $op)))
                  (local.set $acc (i32.add (local.get $acc) (i32.const 3)))
                  (br $fetch))
                (local.set $acc (i32.shl (local.get $acc) (i32.const 1)))
                (br $fetch))
              (call $checkpoint)) ;; falls through into $xor's arm
            (local.set $acc (i32.xor (local.get $acc) (i32.const 0x5a5a)))
            (br $fetch))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (call $checkpoint)
          (if (local.get $left) (then (local.set $pc (i32.const 0))))
          (br $fetch))
        (call $checkpoint)
        (local.set $acc (i32.rotl (local.get $acc) (i32.const 7)))
        (br $fetch)))
    (local.get $acc))

  ;; br_table whose targets take values, one of them a loop.
  (func $values (param $n i32) (result i32)
    (local $i i32)
    (block $a (result i32)
      (block $b (result i32)
        (i32.const 100)
        (loop $c (param i32) (result i32)
          (call $checkpoint)
          (i32.add (local.get $i))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_table $c $c $c $b $a (i32.rem_u (i32.mul (local.get $i) (local.get $n)) (i32.const 5)))))
      (call $checkpoint)
      (i32.add (i32.const 7000))))

  (func (export "main") (result i32)
    (call $run (i32.const 0) (i32.const 4))
    (call $values (i32.const 1))
    (i32.mul (i32.const 31))
    (i32.xor)
    (call $values (i32.const 2))
    (i32.mul (i32.const 17))
    (i32.add)
    (call $values (i32.const 3))
    (i32.sub)))
