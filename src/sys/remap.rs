//! mremap(2), by raw system call.
//!
//! rustix's call without a new address passes four arguments, and with `MREMAP_DONTUNMAP` the kernel
//! reads the fifth even without `MREMAP_FIXED` (a random `EINVAL` where the register holds junk).
//! Given explicitly it is the place the kernel prefers, which is useful in itself.

use super::Result;
use super::memory::ptr;

/// `mremap(from, old_len, new_len, flags, to)`.
///
/// # Safety
/// As the callers below.
unsafe fn mremap(
    from: usize,
    old_len: usize,
    new_len: usize,
    flags: libc::c_int,
    to: usize,
) -> Result<usize> {
    // SAFETY: the callers' promise; all five arguments are passed.
    let at = unsafe { libc::mremap(ptr(from), old_len, new_len, flags, ptr(to)) };
    if at == libc::MAP_FAILED {
        return Err(super::Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    Ok(at.expose_provenance())
}

/// Moves the pages of one mapping to a place of the kernel's choice (`near`, where that is
/// free; 0: anywhere) and leaves the addresses mapped: anonymous memory reads zeros there, a file map
/// the file. Fails without effect.
///
/// # Safety
/// - The caller owns these addresses, or was lent them to be mapped over.
/// - No reference into them lives, unless a file's map shows the same bytes there afterwards.
/// - The memory is not locked: the kernel would unlock more than these pages.
///
/// # References
/// mremap(2) `MREMAP_DONTUNMAP`, Linux 5.7; of file maps since 5.13.
pub(crate) unsafe fn move_aside(addr: usize, len: usize, near: usize) -> Result<usize> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller's promise; nothing is unmapped anywhere.
    unsafe { mremap(addr, len, len, flags, near) }
}

/// Moves the pages of one mapping over whatever is mapped at `to`, and leaves their old addresses mapped and
/// empty: anonymous memory reads zeros there, a file map the file.
///
/// A failure can leave a hole at `to`, and nothing else: the kernel unmaps the destination first.
///
/// # Safety
/// - As [`move_aside`] for `[from, from + len)`, which lies in one mapping.
/// - The caller owns `[to, to + len)` or was lent it to be mapped over, and no reference into it lives.
///
/// # References
/// mremap(2) `MREMAP_DONTUNMAP | MREMAP_FIXED`, Linux 5.7.
pub(crate) unsafe fn move_over(from: usize, len: usize, to: usize) -> Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP | libc::MREMAP_FIXED;
    // SAFETY: the caller's promise is that of this function.
    let at = unsafe { mremap(from, len, len, flags, to)? };
    assert_eq!(at, to, "MREMAP_FIXED moved elsewhere");
    Ok(())
}

/// Maps the object behind one shared mapping a second time, elsewhere.
///
/// # Safety
/// `[addr, addr + len)` lies in one shared mapping.
///
/// # References
/// mremap(2), `old_size` of zero.
pub(crate) unsafe fn duplicate(addr: usize, len: usize) -> Result<usize> {
    // SAFETY: an old length of zero leaves the source as it is, and the kernel chooses the place.
    unsafe { mremap(addr, 0, len, libc::MREMAP_MAYMOVE, 0) }
}

/// Moves one mapping, page tables and all, over whatever is mapped at `to`.
///
/// A failure can leave a hole at `to`: the kernel unmaps the destination first.
///
/// # Safety
/// - The caller owns both ranges, or was lent them; `[from, from + len)` lies in one mapping.
/// - No reference into either lives.
///
/// # References
/// mremap(2) `MREMAP_FIXED`.
pub(crate) unsafe fn move_to(from: usize, len: usize, to: usize) -> Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller's promise is that of this function.
    let at = unsafe { mremap(from, len, len, flags, to)? };
    assert_eq!(at, to, "MREMAP_FIXED moved elsewhere");
    Ok(())
}
