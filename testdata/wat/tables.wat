;; Tables that the module changes between awaits: table.set, grow, fill, copy, init, elem.drop, and null entries.
(module
  (type $f (func (result i32)))
  (import "durun" "checkpoint" (func $checkpoint))
  (table $t 3 20 funcref)
  (table $u 10 funcref)
  (elem (table $t) (i32.const 0) func $one $two)
  (elem $passive funcref (ref.func $ten) (ref.null func) (ref.func $twenty))
  (elem declare func $hundred)

  (func $one (type $f) (i32.const 1))
  (func $two (type $f) (call $checkpoint) (i32.const 2))
  (func $ten (type $f) (call $checkpoint) (i32.const 10))
  (func $twenty (type $f) (i32.const 20))
  (func $hundred (type $f) (call $checkpoint) (i32.const 100))

  ;; A number of what stands in $t: each entry is called, or counts 7 when null.
  (func $sum (result i32)
    (local $i i32) (local $h i32)
    (loop $each
      (local.set $h
        (i32.add
          (i32.mul (local.get $h) (i32.const 3))
          (if (result i32) (ref.is_null (table.get $t (local.get $i)))
            (then (i32.const 7))
            (else (call_indirect $t (type $f) (local.get $i))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (table.size $t))))
    (local.get $h))

  (func (export "main") (result i32)
    (local $h i32)
    (local.set $h (call $sum))
    (table.set $t (i32.const 2) (ref.func $hundred))
    (call $checkpoint)
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (call $sum)))
    (drop (table.grow $t (ref.func $two) (i32.const 2)))
    (call $checkpoint)
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (call $sum)))
    (table.init $t $passive (i32.const 1) (i32.const 0) (i32.const 3))
    (call $checkpoint)
    (elem.drop $passive)
    (call $checkpoint)
    ;; in bounds of a dropped segment only when nothing is taken from it
    (table.init $t $passive (i32.const 0) (i32.const 0) (i32.const 0))
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (call $sum)))
    (table.copy $u $t (i32.const 4) (i32.const 0) (i32.const 4))
    (table.fill $t (i32.const 0) (ref.null func) (i32.const 2))
    (call $checkpoint)
    (table.copy $t $u (i32.const 3) (i32.const 3) (i32.const 2))
    (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (call $sum)))
    ;; beyond the maximum: -1, and nothing changes
    (call $checkpoint)
    (i32.add (local.get $h) (table.grow $t (ref.null func) (i32.const 100)))))
