;; How many rows are above $x. See sum.wat.
(module
  (import "host" "next" (func $next (result i32)))
  (memory (export "memory") 320 320)

  (func (export "run") (param $window i32) (param $x i64) (result i64)
    (local $count i64) (local $at i32) (local $end i32)
    (loop $chunk
      (local.set $at (local.get $window))
      (local.set $end (i32.add (local.get $window) (call $next)))
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (loop $row
            (local.set $count
              (i64.add (local.get $count)
                (i64.extend_i32_u (i64.gt_s (i64.load (local.get $at)) (local.get $x)))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $row (i32.lt_u (local.get $at) (local.get $end))))
          (br $chunk))))
    (local.get $count)))
