;; The guest: CRC-32 (the one of zlib and PNG) and a count of every byte value, eight bytes at a time.
;;
;; Its memory, 18 MiB:
;;   0x000000  8 tables of 256 i32: CRC "slicing by 8"; table k advances a byte past k further bytes
;;   0x002000  8 tables of 256 i32: how often each value was met in lane k of a word; emptied by every scan
;;   0x004000  256 i64: how often each value was met at all
;;   0x200000  the window, 16 MiB: whatever the host lets it show
(module
  (memory (export "memory") 288 288)
  (global (export "window") i32 (i32.const 0x200000))
  (global $crc (mut i32) (i32.const -1))

  ;; Fills the CRC tables, when the instance is made.
  (start $make_tables)
  (func $make_tables
    (local $p i32) (local $crc i32) (local $bit i32)
    (loop $table_0
      (local.set $crc (i32.shr_u (local.get $p) (i32.const 2)))
      (local.set $bit (i32.const 8))
      (loop $bits
        (local.set $crc
          (i32.xor
            (i32.shr_u (local.get $crc) (i32.const 1))
            (i32.and
              (i32.const 0xedb88320)
              (i32.sub (i32.const 0) (i32.and (local.get $crc) (i32.const 1))))))
        (br_if $bits (local.tee $bit (i32.sub (local.get $bit) (i32.const 1)))))
      (i32.store (local.get $p) (local.get $crc))
      (br_if $table_0 (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 4))) (i32.const 0x400))))
    (loop $tables_1_to_7
      (i32.store (local.get $p)
        (call $advance (i32.load (i32.sub (local.get $p) (i32.const 0x400)))))
      (br_if $tables_1_to_7
        (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 4))) (i32.const 0x2000)))))

  ;; The CRC one zero byte later.
  (func $advance (param $crc i32) (result i32)
    (i32.xor
      (i32.shr_u (local.get $crc) (i32.const 8))
      (i32.load (i32.shl (i32.and (local.get $crc) (i32.const 0xff)) (i32.const 2)))))

  ;; Goes on over the bytes [at, at + len).
  (func (export "scan") (param $at i32) (param $len i32)
    (local $crc i32) (local $end i32) (local $word i64) (local $low i32) (local $high i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
    (local.set $crc (global.get $crc))

    ;; Whole words. A byte times 4 is its place in every table, so it is shifted by two bits less.
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $len) (i32.const -8))))
    (block $words_done
      (loop $words
        (br_if $words_done (i32.eq (local.get $at) (local.get $end)))
        (local.set $word (i64.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $low (i32.wrap_i64 (local.get $word)))
        (local.set $high (i32.wrap_i64 (i64.shr_u (local.get $word) (i64.const 32))))

        ;; Count the low half, then take it into the CRC.
        (local.set $a (i32.and (i32.shl   (local.get $low) (i32.const  2)) (i32.const 0x3fc)))
        (local.set $b (i32.and (i32.shr_u (local.get $low) (i32.const  6)) (i32.const 0x3fc)))
        (local.set $c (i32.and (i32.shr_u (local.get $low) (i32.const 14)) (i32.const 0x3fc)))
        (local.set $d (i32.and (i32.shr_u (local.get $low) (i32.const 22)) (i32.const 0x3fc)))
        (i32.store offset=0x2000 (local.get $a) (i32.add (i32.load offset=0x2000 (local.get $a)) (i32.const 1)))
        (i32.store offset=0x2400 (local.get $b) (i32.add (i32.load offset=0x2400 (local.get $b)) (i32.const 1)))
        (i32.store offset=0x2800 (local.get $c) (i32.add (i32.load offset=0x2800 (local.get $c)) (i32.const 1)))
        (i32.store offset=0x2c00 (local.get $d) (i32.add (i32.load offset=0x2c00 (local.get $d)) (i32.const 1)))
        (local.set $low (i32.xor (local.get $low) (local.get $crc)))
        (local.set $crc
          (i32.xor
            (i32.xor
              (i32.load offset=0x1c00 (i32.and (i32.shl   (local.get $low) (i32.const  2)) (i32.const 0x3fc)))
              (i32.load offset=0x1800 (i32.and (i32.shr_u (local.get $low) (i32.const  6)) (i32.const 0x3fc))))
            (i32.xor
              (i32.load offset=0x1400 (i32.and (i32.shr_u (local.get $low) (i32.const 14)) (i32.const 0x3fc)))
              (i32.load offset=0x1000 (i32.and (i32.shr_u (local.get $low) (i32.const 22)) (i32.const 0x3fc))))))

        ;; The high half.
        (local.set $a (i32.and (i32.shl   (local.get $high) (i32.const  2)) (i32.const 0x3fc)))
        (local.set $b (i32.and (i32.shr_u (local.get $high) (i32.const  6)) (i32.const 0x3fc)))
        (local.set $c (i32.and (i32.shr_u (local.get $high) (i32.const 14)) (i32.const 0x3fc)))
        (local.set $d (i32.and (i32.shr_u (local.get $high) (i32.const 22)) (i32.const 0x3fc)))
        (local.set $crc
          (i32.xor
            (local.get $crc)
            (i32.xor
              (i32.xor (i32.load offset=0x0c00 (local.get $a)) (i32.load offset=0x0800 (local.get $b)))
              (i32.xor (i32.load offset=0x0400 (local.get $c)) (i32.load offset=0x0000 (local.get $d))))))
        (i32.store offset=0x3000 (local.get $a) (i32.add (i32.load offset=0x3000 (local.get $a)) (i32.const 1)))
        (i32.store offset=0x3400 (local.get $b) (i32.add (i32.load offset=0x3400 (local.get $b)) (i32.const 1)))
        (i32.store offset=0x3800 (local.get $c) (i32.add (i32.load offset=0x3800 (local.get $c)) (i32.const 1)))
        (i32.store offset=0x3c00 (local.get $d) (i32.add (i32.load offset=0x3c00 (local.get $d)) (i32.const 1)))
        (br $words)))

    ;; Up to seven bytes more.
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $len) (i32.const 7))))
    (block $bytes_done
      (loop $bytes
        (br_if $bytes_done (i32.eq (local.get $at) (local.get $end)))
        (local.set $a (i32.load8_u (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $crc (call $advance (i32.xor (local.get $crc) (local.get $a))))
        (local.set $a (i32.shl (local.get $a) (i32.const 2)))
        (i32.store offset=0x2000 (local.get $a) (i32.add (i32.load offset=0x2000 (local.get $a)) (i32.const 1)))
        (br $bytes)))

    (global.set $crc (local.get $crc))
    (call $add_up))

  ;; Empties the lanes into the totals. A scan is shorter than 4 GiB, so no lane overflows.
  (func $add_up
    (local $p i32) (local $total i32)
    (loop $lanes
      (local.set $total (i32.shl (i32.and (local.get $p) (i32.const 0x3fc)) (i32.const 1)))
      (i64.store offset=0x4000 (local.get $total)
        (i64.add
          (i64.load offset=0x4000 (local.get $total))
          (i64.load32_u offset=0x2000 (local.get $p))))
      (i32.store offset=0x2000 (local.get $p) (i32.const 0))
      (br_if $lanes (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 4))) (i32.const 0x2000)))))

  ;; What all scans so far have found.
  (func (export "crc32") (result i32)
    (i32.xor (global.get $crc) (i32.const -1)))
  (func (export "count") (param $byte i32) (result i64)
    (i64.load offset=0x4000 (i32.shl (i32.and (local.get $byte) (i32.const 0xff)) (i32.const 3)))))
