;; A local that is written behind a call inside try_table: if the call suspends and then throws, the handler reads what the local
;; held before. The write doesn't make it dead at the call.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (tag $t (param i32))
  (func $f (call $checkpoint) (throw $t (i32.const 5)))
  (func $g (param $x i32) (result i32)
    (local.set $x (i32.const 10))
    (block $h (result i32)
      (try_table (catch $t $h) (call $f) (local.set $x (i32.const 20)))
      (i32.const 0))
    (i32.add (local.get $x)))
  (func (export "main") (result i32) (call $g (i32.const 0))))
