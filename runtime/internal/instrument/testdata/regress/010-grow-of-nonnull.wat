;; A table of references that can't be null, which has grown: when it grew again at restore, the new elements were to be what
;; the registry had first, and that was a null.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func (result i32)))
  (func $one (type $t) (i32.const 1))
  (func $two (type $t) (i32.const 2))
  (table $table 1 4 (ref $t) (ref.func $one))
  (elem (ref null $t) (ref.null $t))
  (func (export "main") (result i32)
    (table.grow $table (ref.func $two) (i32.const 2))
    (call $checkpoint)
    (i32.add (call_ref $t (table.get $table (i32.const 2))))))
