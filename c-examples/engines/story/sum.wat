;; Adds up all rows. Each program of the story is such a module: it asks the host for the next rows, which
;; are then in its own memory from $window on, until there are none.
(module
  (import "host" "next" (func $next (result i32))) ;; shows the next rows, returns how many bytes they are
  (memory (export "memory") 320 320) ;; 20 MiB: a window of 16 MiB, and room to begin it on a huge page

  (func (export "run") (param $window i32) (param $x i64) (result i64)
    (local $result i64) (local $at i32) (local $end i32)
    (loop $chunk
      (local.set $at (local.get $window))
      (local.set $end (i32.add (local.get $window) (call $next)))
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (loop $row
            (local.set $result (i64.add (local.get $result) (i64.load (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $row (i32.lt_u (local.get $at) (local.get $end))))
          (br $chunk))))
    (local.get $result)))
