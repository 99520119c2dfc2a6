;; Receives messages called "line" and prints each as a line, until one begins with "q". Built by: wat2wasm messages.wat -o messages.wasm
(module
  (import "durun" "begin" (func $begin (param i32 i32 i32 i32 i32) (result i32)))
  (import "durun" "wait" (func $wait (param i32 i32 i32 i64) (result i32)))
  (import "durun" "result" (func $result (param i32 i32 i32) (result i32)))
  (import "durun" "drop" (func $drop (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "line")

  (func (export "_start")
    (local $op i32) (local $len i32)
    (loop $next
      (local.set $op (call $begin (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))
      (i32.store (i32.const 16) (local.get $op))
      (if (i32.ne (call $wait (i32.const 16) (i32.const 1) (i32.const 1) (i64.const -1)) (i32.const 1)) (then (unreachable)))
      (local.set $len (call $result (local.get $op) (i32.const 1024) (i32.const 1000)))
      (if (i32.lt_s (local.get $len) (i32.const 0)) (then (unreachable)))
      (if (call $drop (local.get $op)) (then (unreachable)))
      (i32.store8 (i32.add (i32.const 1024) (local.get $len)) (i32.const 10))
      ;; iovec
      (i32.store (i32.const 32) (i32.const 1024))
      (i32.store (i32.const 36) (i32.add (local.get $len) (i32.const 1)))
      (if (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)) (then (unreachable)))
      (br_if $next (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 0x71))))))
