;; Calls where control can't come are no sites, and the code is dropped. The else of a dead then is alive.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (func $dead (export "dead") (param $x i32) (result i32)
    (block $out (result i32)
      (if (local.get $x)
        (then
          (br $out (i32.const 1))
          (call $checkpoint)
          (if (i32.const 1) (then (call $checkpoint)) (else (call $checkpoint)))
          (loop (br 0)))
        (else
          (call $checkpoint)
          (return (i32.const 2))
          (call $checkpoint)))
      (block
        (br_if 0 (local.get $x))
        (unreachable)
        (call $checkpoint))
      (call $checkpoint)
      (br 0 (i32.const 3))
      (drop)
      (i32.add)))
  ;; Nothing behind the only site can be reached.
  (func $end (export "end")
    (call $checkpoint)
    (unreachable)
    (call $checkpoint)))
