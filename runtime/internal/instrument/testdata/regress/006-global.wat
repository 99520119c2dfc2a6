;; No function of the module suspends, but it exports one of the host that does: a snapshot was taken, with the address of a
;; function in it as the value of the global.
(module
  (import "durun" "checkpoint" (func $checkpoint))
  (global $g (mut funcref) (ref.func $f))
  (func $f)
  (export "main" (func $checkpoint)))
