;; What coroutines wait for: timers, calls, children and messages. Each export is an entry of its own.
;; Numbers are i32 in little-endian. Where it isn't said otherwise the input is a number n.
(module
  (import "durun" "input" (func $input (param i32 i32) (result i32)))
  (import "durun" "output" (func $output (param i32 i32)))
  (import "durun" "begin" (func $begin (param i32 i32 i32 i32 i32) (result i32)))
  (import "durun" "wait" (func $wait (param i32 i32 i32 i64) (result i32)))
  (import "durun" "result" (func $result (param i32 i32 i32) (result i32)))
  (import "durun" "drop" (func $drop (param i32) (result i32)))

  ;; 0: the input. 16: a body. 32: a result, and then the output. 64: names. 4096: the operations' numbers.
  (memory (export "memory") 1)
  (data (i32.const 64) "echo")
  (data (i32.const 72) "child")
  (data (i32.const 80) "tree")
  (data (i32.const 88) "approval")
  (data (i32.const 96) "cleaned up")

  (func $n (result i32)
    (drop (call $input (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 0)))

  ;; one begins an operation of a kind with a number as its body, and returns where the next operation's number goes.
  (func $one (param $kind i32) (param $name i32) (param $len i32) (param $at i32) (param $body i32) (result i32)
    (i32.store (i32.const 16) (local.get $body))
    (i32.store (local.get $at)
      (call $begin (local.get $kind) (local.get $name) (local.get $len) (i32.const 16) (i32.const 4)))
    (i32.add (local.get $at) (i32.const 4)))

  ;; room makes room for the numbers of n operations.
  (func $room (param $n i32)
    (drop (memory.grow (i32.shr_u (i32.shl (local.get $n) (i32.const 2)) (i32.const 16)))))

  ;; join waits for the n operations, and leaves at 32 the sum of their results, and at 36 how many have failed.
  (func $join (param $n i32)
    (local $at i32)
    (drop (call $wait (i32.const 4096) (local.get $n) (local.get $n) (i64.const -1)))
    (i32.store (i32.const 36) (i32.const 0))
    (local.set $at (i32.const 4096))
    (i32.store (i32.const 40) (i32.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (if (i32.lt_s (call $result (i32.load (local.get $at)) (i32.const 32) (i32.const 4)) (i32.const 0))
          (then (i32.store (i32.const 36) (i32.add (i32.load (i32.const 36)) (i32.const 1))))
          (else (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 32))))))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (i32.store (i32.const 32) (i32.load (i32.const 40))))

  ;; sleep: the input is a time in nanoseconds, 8 bytes. It sleeps for so long.
  (func (export "sleep")
    (drop (call $input (i32.const 16) (i32.const 8)))
    (i32.store (i32.const 4096) (call $begin (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 8)))
    (drop (call $wait (i32.const 4096) (i32.const 1) (i32.const 1) (i64.const -1))))

  ;; steps: n calls of "echo", each after the one before. The output is the sum of the results.
  (func (export "steps")
    (local $n i32) (local $i i32) (local $sum i32)
    (local.set $n (call $n))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (drop (call $one (i32.const 2) (i32.const 64) (i32.const 4) (i32.const 4096) (local.get $i)))
        (call $join (i32.const 1))
        (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 32))))
        (drop (call $drop (i32.load (i32.const 4096))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.store (i32.const 32) (local.get $sum))
    (call $output (i32.const 32) (i32.const 4)))

  ;; fan: n calls of "echo" at once. The output is the sum of the results, and how many have failed.
  (func (export "fan") (call $all (i32.const 2) (i32.const 64) (i32.const 4)))

  ;; parent: n children, entry "child". The output is as of fan.
  (func (export "parent") (call $all (i32.const 3) (i32.const 72) (i32.const 5)))

  (func $all (param $kind i32) (param $name i32) (param $len i32)
    (local $n i32) (local $i i32) (local $at i32)
    (local.set $n (call $n))
    (call $room (local.get $n))
    (local.set $at (i32.const 4096))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $at (call $one (local.get $kind) (local.get $name) (local.get $len) (local.get $at) (local.get $i)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (call $join (local.get $n))
    (call $output (i32.const 32) (i32.const 8)))

  ;; child: sleeps for a millisecond. The output is 2n; if n is 13 it traps.
  (func (export "child")
    (i64.store (i32.const 16) (i64.const 1000000))
    (i32.store (i32.const 4096) (call $begin (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 8)))
    (drop (call $wait (i32.const 4096) (i32.const 1) (i32.const 1) (i64.const -1)))
    (if (i32.eq (call $n) (i32.const 13)) (then (unreachable)))
    (i32.store (i32.const 32) (i32.shl (call $n) (i32.const 1)))
    (call $output (i32.const 32) (i32.const 4)))

  ;; tree: two children of n-1, unless n is 0. The output is how many they are, with itself, and how many have failed.
  (func (export "tree")
    (local $n i32)
    (local.set $n (call $n))
    (if (local.get $n)
      (then
        (drop (call $one (i32.const 3) (i32.const 80) (i32.const 4)
          (call $one (i32.const 3) (i32.const 80) (i32.const 4) (i32.const 4096) (i32.sub (local.get $n) (i32.const 1)))
          (i32.sub (local.get $n) (i32.const 1))))
        (call $join (i32.const 2))))
    (i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))
    (call $output (i32.const 32) (i32.const 8)))

  ;; approve: waits for the message "approval", for the input's time in nanoseconds at most, 8 bytes. The output is the
  ;; message; nothing if none came; "cleaned up" if the coroutine was cancelled.
  (func (export "approve")
    (local $ended i32)
    (drop (call $input (i32.const 16) (i32.const 8)))
    (i32.store (i32.const 4096) (call $begin (i32.const 4) (i32.const 88) (i32.const 8) (i32.const 0) (i32.const 0)))
    (local.set $ended
      (call $wait (i32.const 4096) (i32.const 1) (i32.const 1) (i64.load (i32.const 16))))
    (if (i32.eq (local.get $ended) (i32.const -8))
      (then (call $output (i32.const 96) (i32.const 10)) (unreachable)))
    (if (i32.eq (local.get $ended) (i32.const 1))
      (then
        (call $output (i32.const 1024)
          (call $result (i32.load (i32.const 4096)) (i32.const 1024) (i32.const 2048))))))

  ;; guardian: one child, entry "approve", which it waits for. The output is the child's, or the code with which that failed.
  (data (i32.const 112) "approve")
  (func (export "guardian")
    (local $len i32)
    (i64.store (i32.const 16) (i64.const -1))
    (i32.store (i32.const 4096) (call $begin (i32.const 3) (i32.const 112) (i32.const 7) (i32.const 16) (i32.const 8)))
    (drop (call $wait (i32.const 4096) (i32.const 1) (i32.const 1) (i64.const -1)))
    (local.set $len (call $result (i32.load (i32.const 4096)) (i32.const 1024) (i32.const 2048)))
    (if (i32.lt_s (local.get $len) (i32.const 0))
      (then
        (i32.store (i32.const 1024) (i32.sub (i32.const 0) (local.get $len)))
        (local.set $len (i32.const 4))))
    (call $output (i32.const 1024) (local.get $len)))

  ;; careless: one child, entry "approve", which it gives 50 ms.
  (func (export "careless")
    (i64.store (i32.const 16) (i64.const -1))
    (i32.store (i32.const 4096) (call $begin (i32.const 3) (i32.const 112) (i32.const 7) (i32.const 16) (i32.const 8)))
    (drop (call $wait (i32.const 4096) (i32.const 1) (i32.const 1) (i64.const 50000000))))

  ;; spin: computes for ever.
  (func (export "spin") (loop $next (br $next)))
)
