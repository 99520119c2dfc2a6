;; Function references, null ones too, in locals, globals, parameters and on the operand stack across awaits.
(module
  (type $f (func (param i32) (result i32)))
  (import "durun" "checkpoint" (func $checkpoint))
  (table $slot 2 funcref)
  (global $g (mut funcref) (ref.func $add))
  (elem declare func $add $mul $wait)

  (func $add (type $f) (i32.add (local.get 0) (i32.const 3)))
  (func $mul (type $f) (i32.mul (local.get 0) (i32.const 5)))
  (func $wait (type $f) (call $checkpoint) (i32.xor (local.get 0) (i32.const 9)))

  (func $apply (param $f funcref) (param $x i32) (result i32)
    (call $checkpoint)
    (table.set $slot (i32.const 1) (local.get $f))
    (call_indirect $slot (type $f) (local.get $x) (i32.const 1)))

  (func $pick (param $n i32) (result funcref i32)
    (local $f funcref)
    (if (i32.eqz (local.get $n)) (then (local.set $f (ref.func $add))))
    (if (i32.eq (local.get $n) (i32.const 1)) (then (local.set $f (ref.func $mul))))
    (if (i32.eq (local.get $n) (i32.const 2)) (then (local.set $f (ref.func $wait))))
    (call $checkpoint)
    (local.get $f)
    (ref.is_null (local.get $f)))

  (func (export "main") (result i32)
    (local $i i32) (local $x i32) (local $f funcref) (local $null i32)
    (local.set $x (i32.const 1))
    (loop $each
      (i32.const 0)
      (ref.func $mul) ;; both stay below on the operand stack
      (call $pick (i32.and (local.get $i) (i32.const 3)))
      (local.set $null)
      (local.set $f)
      (local.get $null)
      (if (param funcref) (result funcref)
        (then
          (global.set $g (ref.func $wait))
          (local.set $x (i32.add (local.get $x) (i32.const 1000))))
        (else
          (local.set $x (call $apply (local.get $f) (local.get $x)))))
      (table.set $slot)
      (local.set $x (call_indirect $slot (type $f) (local.get $x) (i32.const 0)))
      (local.set $x (call $apply (global.get $g) (local.get $x)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (i32.const 6))))
    (local.get $x)))
