;; Loops within loops: each is peeled, once for each loop around it. One is left by falling out, one never.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (func $two (export "two") (param $n i32)
    (local $i i32) (local $j i32)
    (loop $outer
      (local.set $j (i32.const 0))
      (loop $inner
        (call $checkpoint)
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $inner (i32.lt_u (local.get $j) (local.get $n))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $outer (i32.lt_u (local.get $i) (local.get $n)))))
  (func $forever (export "forever")
    (loop $again (call $checkpoint) (br $again)))
  (func $once (export "once") (result i32)
    (loop (result i32) (call $checkpoint) (i32.const 5))))
