;; Loops of little code, which are emitted several times: left in the middle, continued from the middle, with a result that lies below
;; a call, counted before they are entered; and one that suspends, which stays one.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (memory 1)
  (func (export "digits") (param $n i32) (result i32)
    (local $d i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $n (i32.div_u (local.get $n) (i32.const 3)))
        (local.set $d (i32.add (local.get $d) (i32.const 1)))
        (br $next)))
    (local.get $d))
  (func (export "collatz") (param $n i32) (result i32)
    (local $c i32)
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (loop $next (result i32)
      (if (i32.le_u (local.get $n) (i32.const 1)) (then (return (local.get $c))))
      (local.set $c (i32.add (local.get $c) (i32.const 1)))
      (if (i32.and (local.get $n) (i32.const 1))
        (then
          (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 3)) (i32.const 1)))
          (br $next))
        (else (local.set $n (i32.shr_u (local.get $n) (i32.const 1)))))
      (br $next)))
  (func (export "below") (param $n i32) (result i32)
    (local $s i32)
    (i32.mul (local.get $n) (i32.const 7))
    (loop $next (result i32)
      (local.set $s (i32.add (local.get $s) (local.get $n)))
      (br_if $next (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 2))) (i32.const 0)))
      (local.get $s))
    (call $checkpoint)
    (i32.add))
  (func (export "switch") (param $n i32) (result i32)
    (local $s i32)
    (block $done
      (loop $next
        (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 5)) (local.get $n)))
        (block $three
          (br_table $three $next $next $done $three
            (i32.rem_u (local.tee $n (i32.add (local.get $n) (i32.const 7))) (i32.const 11))))
        (br_if $next (i32.lt_u (local.get $n) (i32.const 500)))))
    (local.get $s))
  (func (export "short") (param $n i32) (result i32)
    (local $i i32)
    (local.set $i (i32.const 0))
    (loop $next
      (local.set $n (i32.add (local.get $n) (local.get $i)))
      (br_if $next (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 13))))
    (local.get $n))
  (func (export "suspends") (param $n i32) (result i32)
    (local $s i32)
    (loop $next
      (call $checkpoint)
      (local.set $s (i32.add (local.get $s) (local.get $n)))
      (br_if $next (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
    (local.get $s)))
