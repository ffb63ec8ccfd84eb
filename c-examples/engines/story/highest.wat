;; The highest of all rows and $x. See sum.wat.
(module
  (import "host" "next" (func $next (result i32)))
  (memory (export "memory") 320 320)

  (func (export "run") (param $window i32) (param $x i64) (result i64)
    (local $row i64) (local $at i32) (local $end i32)
    (loop $chunk
      (local.set $at (local.get $window))
      (local.set $end (i32.add (local.get $window) (call $next)))
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (loop $next_row
            (local.set $row (i64.load (local.get $at)))
            (local.set $x
              (select (local.get $row) (local.get $x) (i64.gt_s (local.get $row) (local.get $x))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next_row (i32.lt_u (local.get $at) (local.get $end))))
          (br $chunk))))
    (local.get $x)))
