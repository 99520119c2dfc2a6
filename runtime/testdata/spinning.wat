;; Ways to compute for ever, or as good as that, see preemption_test.go. Built by:
;; wat2wasm --enable-tail-call --debug-names spinning.wat -o spinning.wasm
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (import "env" "call" (func $host (param $export i32) (param $n i32) (result i32))) ;; calls f<export>(n)
  (memory (export "memory") 1024)
  (table $table 100000 funcref)
  (elem (table $table) (i32.const 0) func $indirect $indirectTail)
  (type $unary (func (param i32) (result i32)))

  (func $loop (export "loop") (loop $again (br $again)))

  (func (export "nested") (local $i i32)
    (loop $outer
      (local.set $i (i32.const 3))
      (loop $inner
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (br_if $inner (local.get $i)))
      (br $outer)))

  (func (export "values") (result i32 f64)
    (i32.const 1) (f64.const 2) (i64.const 3)
    (loop $again (param i32 f64 i64) (result i32 f64)
      (drop)
      (f64.const 0.5) (f64.mul)
      (i64.const 4)
      (br_if $again (i32.const 1))
      (drop)))

  (func (export "table") (local $i i32)
    (loop $a
      (loop $b
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_table $a $b $a (i32.and (local.get $i) (i32.const 3))))))

  ;; Loops that look as if they ended soon.
  (func (export "uneven") (local $i i32) ;; 3 i is 10 after 1,431,655,770 rounds
    (loop $forever
      (local.set $i (i32.const 0))
      (loop $again
        (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 3))) (i32.const 10))))
      (br $forever)))
  (func (export "setBack") (local $i i32)
    (local.set $i (i32.const 0))
    (loop $again
      (local.set $i (i32.const 0))
      (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10)))))
  (func (export "backEarly") (local $i i32)
    (local.set $i (i32.const 0))
    (loop $again
      (br_if $again (i32.lt_u (local.get $i) (i32.const 5)))
      (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10)))))
  (func (export "backByTable") (local $i i32)
    (local.set $i (i32.const 0))
    (loop $again
      (block $on (br_table $again $on (i32.const 0)))
      (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10)))))
  (func (export "otherWay") (local $i i32)
    (loop $forever
      (local.set $i (i32.const 1))
      (loop $again
        (br_if $again (local.tee $i (i32.add (local.get $i) (i32.const 1)))))
      (br $forever)))
  (func (export "otherStart") (local $i i32) (local $j i32)
    (loop $forever
      (local.set $j (i32.const 0))
      (loop $again
        (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10))))
      (br $forever)))
  ;; And some that do, in one that doesn't.
  (func (export "short") (local $i i32) (local $sum i32)
    (loop $forever
      (local.set $sum (i32.const 0))
      (local.set $i (i32.const 0))
      (loop $again
        (local.set $sum (i32.add (local.get $sum) (local.get $i)))
        (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 2))) (i32.const 20))))
      (if (i32.ne (local.get $sum) (i32.const 90)) (then unreachable))
      (local.set $i (i32.const 5))
      (loop $down
        (local.set $sum (i32.add (local.get $sum) (local.get $i)))
        (br_if $down (local.tee $i (i32.add (local.get $i) (i32.const -1)))))
      (br_if $forever (i32.eq (local.get $sum) (i32.const 105)))))

  ;; 2^100 calls
  (func $fib (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n))
      (then (i32.const 1))
      (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 1)))))))
  (func (export "fib") (result i32) (call $fib (i32.const 100)))

  (func $even (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
    (i32.add (call $odd (i32.sub (local.get $n) (i32.const 1))) (call $odd (i32.sub (local.get $n) (i32.const 1)))))
  (func $odd (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
    (i32.add (call $even (i32.sub (local.get $n) (i32.const 1))) (call $even (i32.sub (local.get $n) (i32.const 1)))))
  (func (export "mutual") (result i32) (call $even (i32.const 100)))

  (func $indirect (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
    (i32.add
      (call_indirect $table (type $unary) (i32.sub (local.get $n) (i32.const 1)) (i32.const 0))
      (call_indirect $table (type $unary) (i32.sub (local.get $n) (i32.const 1)) (i32.const 0))))
  (func (export "indirect") (result i32) (call $indirect (i32.const 100)))

  (func $tail (export "tail") (return_call $tail))
  (func $indirectTail (param $n i32) (result i32)
    (return_call_indirect $table (type $unary) (local.get $n) (i32.const 1)))
  (func (export "indirectTail") (result i32) (call $indirectTail (i32.const 0)))

  ;; 4^30 calls, without a loop and without a cycle of calls
  (func $t0 (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func $t1 (param i32) (result i32) (call $t0 (call $t0 (call $t0 (call $t0 (local.get 0))))))
  (func $t2 (param i32) (result i32) (call $t1 (call $t1 (call $t1 (call $t1 (local.get 0))))))
  (func $t3 (param i32) (result i32) (call $t2 (call $t2 (call $t2 (call $t2 (local.get 0))))))
  (func $t4 (param i32) (result i32) (call $t3 (call $t3 (call $t3 (call $t3 (local.get 0))))))
  (func $t5 (param i32) (result i32) (call $t4 (call $t4 (call $t4 (call $t4 (local.get 0))))))
  (func $t6 (param i32) (result i32) (call $t5 (call $t5 (call $t5 (call $t5 (local.get 0))))))
  (func $t7 (param i32) (result i32) (call $t6 (call $t6 (call $t6 (call $t6 (local.get 0))))))
  (func $t8 (param i32) (result i32) (call $t7 (call $t7 (call $t7 (call $t7 (local.get 0))))))
  (func $t9 (param i32) (result i32) (call $t8 (call $t8 (call $t8 (call $t8 (local.get 0))))))
  (func $t10 (param i32) (result i32) (call $t9 (call $t9 (call $t9 (call $t9 (local.get 0))))))
  (func $t11 (param i32) (result i32) (call $t10 (call $t10 (call $t10 (call $t10 (local.get 0))))))
  (func $t12 (param i32) (result i32) (call $t11 (call $t11 (call $t11 (call $t11 (local.get 0))))))
  (func $t13 (param i32) (result i32) (call $t12 (call $t12 (call $t12 (call $t12 (local.get 0))))))
  (func $t14 (param i32) (result i32) (call $t13 (call $t13 (call $t13 (call $t13 (local.get 0))))))
  (func $t15 (param i32) (result i32) (call $t14 (call $t14 (call $t14 (call $t14 (local.get 0))))))
  (func $t16 (param i32) (result i32) (call $t15 (call $t15 (call $t15 (call $t15 (local.get 0))))))
  (func $t17 (param i32) (result i32) (call $t16 (call $t16 (call $t16 (call $t16 (local.get 0))))))
  (func $t18 (param i32) (result i32) (call $t17 (call $t17 (call $t17 (call $t17 (local.get 0))))))
  (func $t19 (param i32) (result i32) (call $t18 (call $t18 (call $t18 (call $t18 (local.get 0))))))
  (func $t20 (param i32) (result i32) (call $t19 (call $t19 (call $t19 (call $t19 (local.get 0))))))
  (func $t21 (param i32) (result i32) (call $t20 (call $t20 (call $t20 (call $t20 (local.get 0))))))
  (func $t22 (param i32) (result i32) (call $t21 (call $t21 (call $t21 (call $t21 (local.get 0))))))
  (func $t23 (param i32) (result i32) (call $t22 (call $t22 (call $t22 (call $t22 (local.get 0))))))
  (func $t24 (param i32) (result i32) (call $t23 (call $t23 (call $t23 (call $t23 (local.get 0))))))
  (func $t25 (param i32) (result i32) (call $t24 (call $t24 (call $t24 (call $t24 (local.get 0))))))
  (func $t26 (param i32) (result i32) (call $t25 (call $t25 (call $t25 (call $t25 (local.get 0))))))
  (func $t27 (param i32) (result i32) (call $t26 (call $t26 (call $t26 (call $t26 (local.get 0))))))
  (func $t28 (param i32) (result i32) (call $t27 (call $t27 (call $t27 (call $t27 (local.get 0))))))
  (func $t29 (param i32) (result i32) (call $t28 (call $t28 (call $t28 (call $t28 (local.get 0))))))
  (func $t30 (param i32) (result i32) (call $t29 (call $t29 (call $t29 (call $t29 (local.get 0))))))
  (func (export "tree") (result i32) (call $t30 (i32.const 0)))

  ;; Few instructions, of which each takes long
  (func (export "fill") (loop $again (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000)) (br $again)))
  (func (export "copy") (loop $again (memory.copy (i32.const 0) (i32.const 0x2000000) (i32.const 0x2000000)) (br $again)))
  (func (export "elements") (loop $again (table.copy $table $table (i32.const 10) (i32.const 20) (i32.const 90000)) (br $again)))

  ;; In what is left of a loop after an await
  (func (export "resumed") (local $n i32)
    (loop $outer
      (call $checkpoint)
      (loop $inner
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $inner))
      (br $outer)))
  (func (export "resumedLater") (local $n i32)
    (loop $outer
      (if (i32.eqz (local.get $n)) (then (call $checkpoint)))
      (local.set $n (i32.const 1))
      (br $outer)))

  ;; Below a host function
  (func (export "f0") (param $n i32) (result i32) (call $loop) (unreachable))
  (func (export "reenter") (result i32) (call $host (i32.const 0) (i32.const 0))))
