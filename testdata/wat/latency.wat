;; Makes calls of "echo", one after the other, for ever, and tells the host when it goes on after each. `make bench` runs it.
(module
  (import "durun" "begin" (func $begin (param i32 i32 i32 i32 i32) (result i32)))
  (import "durun" "wait" (func $wait (param i32 i32 i32 i64) (result i32)))
  (import "durun" "drop" (func $drop (param i32) (result i32)))
  (import "probe" "goes_on" (func $goes_on))
  (memory (export "memory") 1)
  (data (i32.const 64) "echo")
  (func (export "_start")
    (loop $next
      (i32.store (i32.const 0) (call $begin (i32.const 2) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0)))
      (drop (call $wait (i32.const 0) (i32.const 1) (i32.const 1) (i64.const -1)))
      (call $goes_on)
      (drop (call $drop (i32.load (i32.const 0))))
      (br $next)))
)
