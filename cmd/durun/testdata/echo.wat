;; Yields its input, which is its result too. Built by: wat2wasm echo.wat -o echo.wasm
(module
  (import "durun" "input" (func $input (param i32 i32) (result i32)))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (import "durun" "output" (func $output (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "main") (local $n i32)
    (local.set $n (call $input (i32.const 16) (i32.const 1024)))
    (drop (call $yield (i32.const 16) (local.get $n)))
    (call $output (i32.const 16) (local.get $n)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
