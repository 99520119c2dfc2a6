;; Waits for two visitors, and adds up their numbers. Built by:
;; wat2wasm --debug-names visitor.wat -o visitor.wasm
(module
  (import "door" "visitor" (func $visitor (result i32))) ;; waits for the next one
  (func (export "main") (result i32)
    (i32.add (call $visitor) (call $visitor))))
