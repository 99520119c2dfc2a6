;; call_indirect: several types, tables and depths; targets that suspend and targets that never do; the import itself
;; in the table; and a recursion that goes through the table only.
(module
  (type $void (func))
  (type $unary (func (param i32) (result i32)))
  (type $mixed (func (param f64 i64) (result i64 f64)))
  (type $pure (func (param i64) (result i64)))
  (import "durun" "checkpoint" (func $checkpoint))
  (import "durun" "yield" (func $yield (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $ops 8 funcref)
  (table $more 4 funcref)
  (elem (table $ops) (i32.const 0) func $inc $twice $deep $checkpoint $mix $square $yield)
  (elem (table $more) (i32.const 1) func $mix $deep)

  (func $inc (type $unary) (i32.add (local.get 0) (i32.const 1)))
  (func $twice (type $unary)
    (call_indirect $ops (type $void) (i32.const 3))
    (i32.mul (local.get 0) (i32.const 2)))
  (func $deep (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n))
      (then
        (call_indirect $ops (param i32 i32) (result i32) (i32.const 0) (i32.const 0) (i32.const 6))
        (drop)
        (call_indirect $ops (type $void) (i32.const 3))
        (i32.const 5))
      (else
        (local.get $n)
        (call_indirect $more (type $unary) (i32.sub (local.get $n) (i32.const 1)) (i32.const 2))
        (i32.mul (i32.const 3))
        (i32.add))))
  (func $mix (type $mixed)
    (i64.add (local.get 1) (i64.const 1))
    (f64.mul (local.get 0) (f64.const 1.25))
    (call $checkpoint))
  (func $square (type $pure) (i64.mul (local.get 0) (local.get 0)))

  (func (export "main") (result i64)
    (local $i i32) (local $h i64) (local $f f64)
    (local.set $f (f64.const 1))
    (loop $each
      (local.set $h
        (i64.add
          (i64.mul (local.get $h) (i64.const 33))
          (i64.extend_i32_u
            (call_indirect $ops (type $unary)
              (i32.add (i32.const 10) (local.get $i))
              (i32.rem_u (local.get $i) (i32.const 3))))))
      (call_indirect $more (type $mixed) (local.get $f) (local.get $h) (i32.const 1))
      (local.set $f)
      (local.set $h)
      (local.set $h (call_indirect $ops (type $pure) (local.get $h) (i32.const 5)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (i32.const 7))))
    (i64.xor (local.get $h) (i64.reinterpret_f64 (local.get $f)))))
