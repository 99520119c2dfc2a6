;; A tail call whose target's result is a subtype of the caller's: the continuation that is called in place of the caller has
;; the other type, and the call through the table of continuations trapped.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func))
  (type $n (func (result (ref null $t))))
  (table 1 funcref)
  (elem (i32.const 0) func $narrow)
  (func $f (type $t))
  (func $narrow (result (ref null $t)) (call $checkpoint) (ref.null $t))
  (func $wide (result funcref) (return_call $narrow))
  (func (export "main") (result i32) (ref.is_null (call $wide))))
