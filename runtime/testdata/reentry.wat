;; A guest that host functions call back, see reentry_test.go. Built by:
;; wat2wasm --debug-names reentry.wat -o reentry.wasm
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (import "env" "call" (func $host (param $export i32) (param $n i32) (result i32))) ;; calls f<export>(n)
  (import "env" "later" (func $later (param $export i32) (param $n i32) (result i32))) ;; the same twice, around an await
  (import "env" "ready" (func $ready)) ;; an await that never has to wait
  (import "env" "exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $depth (mut i32) (i32.const 0))
  (export "f9" (func $checkpoint))

  (func $count (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1))))

  ;; returns
  (func (export "f0") (param $n i32) (result i32)
    (call $count)
    (i32.mul (local.get $n) (i32.const 2)))

  ;; suspends three calls deep
  (func $inner (param $n i64) (result i64)
    (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
    (i32.store (i32.const 16) (i32.wrap_i64 (local.get $n)))
    (call $checkpoint)
    (global.set $depth (i32.sub (global.get $depth) (i32.const 1)))
    (i64.add (local.get $n) (i64.const 1)))
  (func $middle (param $n f64) (result f64)
    (f64.add (local.get $n) (f64.convert_i64_s (call $inner (i64.trunc_f64_s (local.get $n))))))
  (func (export "f1") (param $n i32) (result i32)
    (call $count)
    (i32.trunc_f64_s (call $middle (f64.convert_i32_s (local.get $n)))))

  ;; n host functions deep
  (func (export "f2") (param $n i32) (result i32)
    (call $count)
    (if (i32.eqz (local.get $n)) (then (call $ready) (return (i32.const 5))))
    (i32.add (local.get $n) (call $host (i32.const 2) (i32.sub (local.get $n) (i32.const 1)))))

  ;; traps
  (func $crash (param $n i32) (result i32) (call $count) (i32.div_u (local.get $n) (i32.const 0)))
  (func (export "f3") (param $n i32) (result i32) (call $crash (local.get $n)))

  ;; exits
  (func (export "f4") (param $n i32) (result i32) (call $count) (call $exit (local.get $n)) (i32.const 0))

  ;; goes deeper for ever
  (func (export "f5") (param $n i32) (result i32)
    (call $count)
    (call $host (i32.const 5) (i32.add (local.get $n) (i32.const 1))))

  ;; suspends n host functions deep
  (func $deep (export "f6") (param $n i32) (result i32)
    (call $count)
    (if (i32.eqz (local.get $n)) (then (call $checkpoint) (return (i32.const 5))))
    (i32.add (local.get $n) (call $host (i32.const 6) (i32.sub (local.get $n) (i32.const 1)))))

  ;; grows the memory, and never calls the host
  (func (export "f7") (param $n i32) (result i32)
    (call $count)
    (memory.grow (local.get $n)))

  (func (export "compare") (param $a i32) (param $b i64) (result i64)
    (i64.sub (i64.extend_i32_s (local.get $a)) (local.get $b)))

  ;; the entry: suspends before and after the host's call
  (func (export "main") (param $export i32) (param $n i32) (result i64)
    (local $kept i64) (local $got i32)
    (local.set $kept (i64.const 1000000))
    (global.set $depth (i32.const 10))
    (call $checkpoint)
    (local.set $got (call $host (local.get $export) (local.get $n)))
    (call $checkpoint)
    (i64.add (local.get $kept) (i64.extend_i32_s (local.get $got))))

  (func (export "twice") (param $export i32) (param $n i32) (result i64)
    (i64.add (i64.const 2000000) (i64.extend_i32_s (call $later (local.get $export) (local.get $n)))))
)
