;; A start function that computes for ever, see preemption_test.go. Built by:
;; wat2wasm --debug-names spinningstart.wat -o spinningstart.wasm
(module
  (func $start (loop $again (br $again)))
  (start $start)
  (func (export "main")))
