;; An indirect call suspends if a function of its type whose address is taken may; a type that is equal is the same.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (type $a (func (param i32) (result i32)))
  (type $also_a (func (param i32) (result i32)))
  (type $b (func (param i64) (result i64)))
  (type $c (func (param f32)))
  (table 3 funcref)
  (elem (i32.const 0) $f $g)
  (func $f (type $a) (call $checkpoint) (local.get 0))
  (func $g (type $b) (local.get 0))
  (func $h (type $c) (call $checkpoint)) ;; not taken
  (func (export "may") (param i32) (result i32)
    (i32.add (local.get 0) (call_indirect (type $also_a) (i32.const 3) (local.get 0))))
  (func (export "never") (param i32) (result i64)
    (call_indirect (type $b) (i64.const 3) (local.get 0)))
  (func (export "nor") (param i32)
    (call_indirect (type $c) (f32.const 3) (local.get 0)))
  (func (export "direct") (call $h (f32.const 1))))
