;; Multi-value functions, blocks and loops, with operands below, between and above the awaits.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "multi")

  ;; Four results of four types; suspends with three of them on the operand stack.
  (func $four (param $n i32) (result i32 i64 f32 f64)
    (i32.add (local.get $n) (i32.const 1))
    (i64.mul (i64.extend_i32_u (local.get $n)) (i64.const 0x100000001))
    (f32.div (f32.convert_i32_u (local.get $n)) (f32.const 3))
    (call $checkpoint)
    (f64.div (f64.convert_i32_u (local.get $n)) (f64.const 7)))

  ;; Takes what $four returns and makes one number of it.
  (func $pack (param i32 i64 f32 f64) (result i64)
    (i64.add
      (i64.add (i64.extend_i32_u (local.get 0)) (local.get 1))
      (i64.add
        (i64.extend_i32_u (i32.reinterpret_f32 (local.get 2)))
        (i64.reinterpret_f64 (local.get 3)))))

  (func $swap (param i64 i64) (result i64 i64)
    (call $checkpoint)
    (local.get 1)
    (local.get 0))

  ;; A loop whose two parameters are carried on the operand stack over the back edge, through awaits.
  (func $fib (param $n i32) (result i64 i64)
    (i64.const 0)
    (i64.const 1)
    (loop $step (param i64 i64) (result i64 i64)
      (call $swap)
      (call $addup)
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $step (local.get $n))))

  ;; (b, a) to (b, a + b)
  (func $addup (param $b i64) (param $a i64) (result i64 i64)
    (local.get $b)
    (i64.add (local.get $a) (local.get $b)))

  ;; A block with parameters and results, left early with a br that carries values.
  (func $early (param $x i32) (result i32 i64)
    (local.get $x)
    (i64.const 1000)
    (block $out (param i32 i64) (result i32 i64)
      (call $checkpoint)
      (br_if $out (i32.and (local.get $x) (i32.const 1)))
      (call $checkpoint)
      (i64.const 5)
      (i64.add)))

  ;; if with parameters and results; both arms suspend with operands below the block.
  (func $arms (param $x i32) (result i64)
    (i64.const 77)
    (i32.const 5)
    (local.get $x)
    (if (param i32) (result i32 i64)
      (then
        (drop (call $yield (i32.const 8) (i32.const 5)))
        (i32.const 10) (i32.mul)
        (i64.const 3))
      (else
        (call $checkpoint)
        (i32.const 20) (i32.mul)
        (call $checkpoint)
        (i64.const 4)))
    (call $combine))

  (func $combine (param i64 i32 i64) (result i64)
    (i64.add
      (i64.mul (local.get 0) (local.get 2))
      (i64.extend_i32_u (local.get 1))))

  ;; Awaits as arguments: each operand of the call is computed across the next one's await.
  (func $nest (param $n i32) (result i64)
    (call $pack4
      (call $pack (call $four (local.get $n)))
      (call $pack (call $four (i32.add (local.get $n) (i32.const 1))))
      (call $combine (i64.const 9) (call $early (i32.add (local.get $n) (i32.const 2))))
      (call $combine (i64.const 11) (call $early (i32.add (local.get $n) (i32.const 3))))))

  (func $pack4 (param i64 i64 i64 i64) (result i64)
    (i64.add
      (i64.mul (i64.add (i64.mul (local.get 0) (i64.const 31)) (local.get 1)) (i64.const 961))
      (i64.add (i64.mul (local.get 2) (i64.const 31)) (local.get 3))))

  (func (export "main") (result i64)
    (call $fib (i32.const 12))
    (i64.mul (i64.const 1000003))
    (i64.add)
    (call $nest (i32.const 40))
    (i64.xor)
    (i64.mul (i64.const 31))
    (i64.add (call $arms (i32.const 1)))
    (i64.mul (i64.const 31))
    (i64.add (call $arms (i32.const 0)))))
