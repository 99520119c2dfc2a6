;; Calls the handler "greet" with "ada", and yields what it says. Built by: wat2wasm call.wat -o call.wasm
(module
  (import "durun" "begin" (func $begin (param i32 i32 i32 i32 i32) (result i32)))
  (import "durun" "wait" (func $wait (param i32 i32 i32 i64) (result i32)))
  (import "durun" "result" (func $result (param i32 i32 i32) (result i32)))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "greetada")
  (func (export "main") (local $n i32)
    (i32.store (i32.const 16) (call $begin (i32.const 2) (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 3)))
    (drop (call $wait (i32.const 16) (i32.const 1) (i32.const 1) (i64.const -1)))
    (local.set $n (call $result (i32.load (i32.const 16)) (i32.const 32) (i32.const 1024)))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then unreachable))
    (drop (call $yield (i32.const 32) (local.get $n)))))
