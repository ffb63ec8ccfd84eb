;; The guest of every engine. Its memory has 4 pages of 64 KiB and may grow to 16. A data segment lies at
;; 64 KiB (65536), another at 192 KiB (196608), so that what a tie covers and what it leaves has content.
(module
  (memory (export "memory") 4 16)
  (data (i32.const 65536) "the guest's own bytes")
  (data (i32.const 196608) "and some more of them")

  (func (export "load") (param $at i32) (result i32)
    (i32.load8_u (local.get $at)))

  (func (export "store") (param $at i32) (param $byte i32) (result i32)
    (i32.store8 (local.get $at) (local.get $byte))
    (i32.const 0))

  (func (export "fill") (param $at i32) (param $byte i32) (param $len i32) (result i32)
    (memory.fill (local.get $at) (local.get $byte) (local.get $len))
    (i32.const 0))

  ;; The bytes [at, at + len) added up, modulo 2^32.
  (func (export "sum") (param $at i32) (param $len i32) (result i32)
    (local $sum i32) (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (local.get $sum))

  ;; The pages it had, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))
)
