;; A table of references that can't be null, which has grown. To grow it again, a resume took the first reference of the
;; registry, which is null where a segment of the type that can be null begins with one: the snapshot couldn't be restored.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func (result i32)))
  (func $f (type $t) (i32.const 7))
  (table $table 1 (ref $t) (ref.func $f))
  (elem (ref null $t) (ref.null $t))
  (func (export "main") (result i32)
    (drop (table.grow $table (ref.func $f) (i32.const 1)))
    (call $checkpoint)
    (call_ref $t (table.get $table (i32.const 1)))))
