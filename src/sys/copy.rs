//! Copies from and to memory that other code writes at the same time: relaxed, byte by byte.
//!
//! Each byte is loaded and stored once, whatever else happens to it meanwhile: a copy may tear
//! between bytes and never invents one. On x86-64 and aarch64 the loop is written in assembly, whose
//! accesses the compiler neither splits nor doubles and whose widths do not mix with those of Rust's
//! atomics; elsewhere they are volatile words, and under Miri a loop over `AtomicU8`.

/// Copies `len` bytes out of shared memory.
///
/// # Safety
/// - `[from, from + len)` is mapped and readable, `[to, to + len)` is writable and the caller's own.
/// - They do not overlap as addresses.
#[inline]
pub(crate) unsafe fn load(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { imp::copy(from, to, len) }
}

/// Copies `len` bytes into shared memory.
///
/// # Safety
/// As [`load`], with the parts exchanged.
#[inline]
pub(crate) unsafe fn store(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { imp::copy(from, to, len) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod imp {
    use std::arch::asm;

    /// From here on the microcode's string copy beats a loop of vectors.
    const STRING: usize = 1024;

    /// Where the low bits of a target are less than this ahead of its source's, the string copy of
    /// AMD's Zen cores takes ten times as long: it mistakes each store for one that the next load
    /// waits for. A buffer from an allocator, 16 bytes past a page, is such a target.
    const AHEAD: usize = 64;
    const LOW_BITS: usize = 0xfff;

    pub(super) unsafe fn copy(mut from: *const u8, mut to: *mut u8, mut len: usize) {
        let ahead = to.addr().wrapping_sub(from.addr()) & LOW_BITS;
        if len >= STRING && (ahead == 0 || ahead >= AHEAD) {
            // SAFETY: the caller's promise; the direction flag is clear by the ABI.
            unsafe {
                asm!(
                    "rep movsb",
                    inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
                    options(nostack, preserves_flags)
                );
            }
            return;
        }
        // SAFETY: the loops move 64 bytes, then 16, then 1, while that many are left.
        unsafe {
            asm!(
                "cmp {len}, 64",
                "jb 2f",
                "5:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "sub {len}, 64",
                "cmp {len}, 64",
                "jae 5b",
                "2:",
                "cmp {len}, 16",
                "jb 3f",
                "movups {a}, [{from}]",
                "movups [{to}], {a}",
                "add {from}, 16",
                "add {to}, 16",
                "sub {len}, 16",
                "jmp 2b",
                "3:",
                "test {len}, {len}",
                "jz 4f",
                "mov {byte}, byte ptr [{from}]",
                "mov byte ptr [{to}], {byte}",
                "inc {from}",
                "inc {to}",
                "dec {len}",
                "jmp 3b",
                "4:",
                len = inout(reg) len, from = inout(reg) from, to = inout(reg) to,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                byte = out(reg_byte) _,
                options(nostack)
            );
        }
        let _ = (from, to, len);
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod imp {
    use std::arch::asm;

    pub(super) unsafe fn copy(mut from: *const u8, mut to: *mut u8, mut len: usize) {
        // SAFETY: the loops move 32 bytes, then 1, while that many are left.
        unsafe {
            asm!(
                "2:",
                "cmp {len}, #32",
                "b.lo 3f",
                "ldp {a:q}, {b:q}, [{from}], #32",
                "stp {a:q}, {b:q}, [{to}], #32",
                "sub {len}, {len}, #32",
                "b 2b",
                "3:",
                "cbz {len}, 4f",
                "ldrb {byte:w}, [{from}], #1",
                "strb {byte:w}, [{to}], #1",
                "sub {len}, {len}, #1",
                "b 3b",
                "4:",
                len = inout(reg) len, from = inout(reg) from, to = inout(reg) to,
                a = out(vreg) _, b = out(vreg) _, byte = out(reg) _,
                options(nostack)
            );
        }
        let _ = (from, to, len);
    }
}

#[cfg(all(not(miri), not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod imp {
    const WORD: usize = size_of::<usize>();

    /// Volatile words where both addresses are aligned alike, bytes before and after.
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let alike = (from.addr() ^ to.addr()) & (WORD - 1) == 0;
        let lead = if alike { from.addr().wrapping_neg() & (WORD - 1) } else { len };
        let lead = lead.min(len);
        let words = (len - lead) / WORD;
        let tail = lead + words * WORD;
        for i in (0..lead).chain(tail..len) {
            // SAFETY: the caller promises `len` readable and writable bytes.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        }
        for i in (lead..tail).step_by(WORD) {
            // SAFETY: the same; both are aligned to a word from `lead` on.
            unsafe {
                let word = from.add(i).cast::<usize>().read_volatile();
                to.add(i).cast::<usize>().write_volatile(word);
            }
        }
    }
}

#[cfg(miri)]
mod imp {
    use std::sync::atomic::{AtomicU8, Ordering};

    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        for i in 0..len {
            // SAFETY: the caller promises `len` readable bytes; an atomic load only reads.
            let byte =
                unsafe { AtomicU8::from_ptr(from.cast_mut().add(i)) }.load(Ordering::Relaxed);
            // SAFETY: the caller promises `len` writable bytes.
            unsafe { AtomicU8::from_ptr(to.add(i)) }.store(byte, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_length_and_alignment_moves_just_its_bytes() {
        let source: Vec<u8> = (0..2200u32).map(|i| (i * 7 + 1) as u8).collect();
        for len in (0..70).chain([255, 1000, 1023, 1024, 1025, 2100]) {
            for (a, b) in [(0, 0), (1, 0), (0, 3), (5, 13)] {
                let mut target = vec![0xa5; 2200];
                // SAFETY: both vectors hold `len` bytes from there on, and are apart.
                unsafe { super::load(source[a..].as_ptr(), target[b..].as_mut_ptr(), len) };
                assert_eq!(target[b..b + len], source[a..a + len]);
                assert!(target[..b].iter().chain(&target[b + len..]).all(|&byte| byte == 0xa5));
            }
        }
    }
}
