;; return_call and return_call_indirect to functions that suspend: the frame that made the call is gone when they do.
(module
  (type $state (func (param i32 i64) (result i64)))
  (type $wide (func (param i32 i64 f64 v128) (result i64)))
  (import "durun" "checkpoint" (func $checkpoint))
  (table funcref (elem $even $odd $last))

  ;; 30,000 tail calls between two functions; a frame for each would overflow a small stack. Suspends now and then.
  (func $even (type $state)
    (if (i32.eqz (local.get 0)) (then (return_call $last (local.get 0) (local.get 1))))
    (if (i32.eqz (i32.rem_u (local.get 0) (i32.const 5000))) (then (call $checkpoint)))
    (return_call $odd (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 1) (i64.const 3))))
  (func $odd (type $state)
    (return_call_indirect (type $state)
      (i32.sub (local.get 0) (i32.const 1))
      (i64.mul (local.get 1) (i64.const 5))
      (i32.const 0)))
  (func $last (type $state)
    (call $checkpoint)
    (return_call $wide
      (local.get 0)
      (i64.xor (local.get 1) (i64.const 0x55))
      (f64.const 2.5)
      (v128.const i64x2 7 9)))
  ;; more parameters than the caller has: the host engine moves its stack arguments
  (func $wide (type $wide)
    (call $checkpoint)
    (i64.add
      (i64.add (local.get 1) (i64.reinterpret_f64 (local.get 2)))
      (i64.add (i64x2.extract_lane 0 (local.get 3)) (i64x2.extract_lane 1 (local.get 3)))))

  ;; a tail call to the awaiting import itself
  (func $pause (return_call $checkpoint))

  ;; a tail call from inside blocks, with operands left below
  (func $inner (param $n i32) (result i64)
    (i64.const 99)
    (block (result i64)
      (i64.const 98)
      (loop (result i64)
        (call $pause)
        (return_call_indirect (type $state) (local.get $n) (i64.const 1) (i32.const 2)))
      (i64.add))
    (i64.add))

  (func (export "main") (result i64)
    (i64.mul (call $even (i32.const 30000) (i64.const 1)) (i64.const 31))
    (call $pause)
    (i64.add (call $inner (i32.const 3)))))
