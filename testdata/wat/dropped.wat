;; A segment dropped before an await stays dropped after it: the second memory.init traps.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory (export "memory") 1)
  (data $once "once")

  (func (export "main") (result i32)
    (memory.init $once (i32.const 0) (i32.const 0) (i32.const 4))
    (data.drop $once)
    (call $checkpoint)
    (memory.init $once (i32.const 8) (i32.const 0) (i32.const 4))
    (i32.load (i32.const 8))))
