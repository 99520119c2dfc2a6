;; Prints a line through fd_write, sleeps 20 ms in poll_oneoff, prints the next: five times. Returns the digits' sum.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "tick 0\n")
  (data (i32.const 16) "\00\00\00\00\07\00\00\00") ;; iovec: 0, 7
  ;; subscription: userdata 0x1234, clock, monotonic, 20,000,000 ns, precision 0, relative
  (data (i32.const 64) "\34\12\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\2d\31\01")

  (func $say (param $n i32)
    (i32.store8 (i32.const 5) (i32.add (i32.const 0x30) (local.get $n)))
    (if (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)) (then (unreachable)))
    (if (i32.ne (i32.load (i32.const 32)) (i32.const 7)) (then (unreachable))))

  (func $sleep
    (i64.store (i32.const 128) (i64.const -1))
    (if (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 36)) (then (unreachable)))
    ;; one event, for our subscription, without an error
    (if (i32.ne (i32.load (i32.const 36)) (i32.const 1)) (then (unreachable)))
    (if (i64.ne (i64.load (i32.const 128)) (i64.const 0x1234)) (then (unreachable)))
    (if (i32.load16_u (i32.const 136)) (then (unreachable))))

  (func $main (export "main") (result i32)
    (local $i i32) (local $sum i32)
    (loop $next
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (call $say (local.get $i))
      (call $sleep)
      (local.set $sum (i32.add (local.get $sum) (local.get $i)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 5))))
    (local.get $sum))
  (func (export "_start") (drop (call $main))))
