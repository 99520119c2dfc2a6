;; A function that may suspend and returns a reference that can't be null: the cold path has no such value to return, and the
;; running form was invalid.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func))
  (elem declare func $f)
  (func $f (type $t))
  (func $make (result (ref $t)) (call $checkpoint) (ref.func $f))
  (func (export "main") (call_ref (call $make))))
