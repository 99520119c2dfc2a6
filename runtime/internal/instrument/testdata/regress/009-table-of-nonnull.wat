;; A table of references that can't be null: elements came from a registry, whose references can, by a table.copy, which isn't
;; valid. So did those of active segments.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $t (func (result i32)))
  (func $one (type $t) (i32.const 1))
  (func $two (type $t) (i32.const 2))
  (table $table 4 4 (ref $t) (ref.func $one))
  (elem (table $table) (i32.const 0) (ref $t) (ref.func $two))
  (elem $passive (ref $t) (ref.func $two) (ref.func $two))
  (func (export "main") (result i32)
    (call $checkpoint)
    (table.init $table $passive (i32.const 1) (i32.const 0) (i32.const 2))
    (call $checkpoint)
    ;; the digits are what functions 0 to 3 of the table give
    ...)
  ;; one for each of: more than there is room for; more than the segment has; nothing, at the end of both; nothing, beyond
  (func (export "place") (call $checkpoint) (table.init $table $passive (i32.const 3) (i32.const 0) (i32.const 2)) (call $checkpoint))
  (func (export "from") ...)
  (func (export "end") ...)
  (func (export "beyond") ...))
