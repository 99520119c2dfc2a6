;; Waits once, and computes for ever. Built by: wat2wasm spin.wat -o spin.wasm
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (func (export "_start")
    (call $checkpoint)
    (loop $on (br $on))))
