;; Has the host sort five bytes, by an order of its own. Built by:
;; wat2wasm --debug-names sort.wat -o sort.wasm
(module
  (import "env" "sort" (func $sort (param $at i32) (param $n i32))) ;; sorts n bytes
  (memory (export "memory") 1)
  (data (i32.const 0) "\07\08\01\02\05")
  (func (export "_start") (call $sort (i32.const 0) (i32.const 5)))

  ;; Whether a is before b: even numbers are before odd ones.
  (func (export "before") (param $a i32) (param $b i32) (result i32)
    (i32.lt_u
      (i32.rotr (local.get $a) (i32.const 1))
      (i32.rotr (local.get $b) (i32.const 1)))))
