//! `pagetie_region_*`.

use super::options::pagetie_region_options;
use super::{Failure, free, give, guard, handle, options, output, pagetie_error, pagetie_status};
use crate::page::Extent;
use crate::{Region, RegionBuilder};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// Pages that can be tied: a memory object and one host view of it that never moves. Made by
/// pagetie_region_new, pagetie_region_from_fd, pagetie_region_open and pagetie_region_adopt.
#[derive(Debug)]
pub struct pagetie_region(pub(super) Region);

/// Makes a new region of `len` zero bytes in memory of its own, sealed against shrinking.
///
/// `len` is a multiple of the page size (of the huge page size with required huge pages), not 0. No
/// memory is taken before it is touched, but for required huge pages. NULL options are the
/// defaults. Release it with pagetie_region_free.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE
/// (more than an object can have), PAGETIE_NO_MEMORY, PAGETIE_LIMIT, PAGETIE_UNSUPPORTED (no such
/// huge pages), PAGETIE_OS. Since 0.1; Linux 5.14.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_new(
    len: usize,
    options: *const pagetie_region_options,
    out: *mut *mut pagetie_region,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_new", error, || {
        let out = output(out, "out")?;
        // SAFETY: the caller's promise.
        let region = unsafe { options::region(options)? }.build(len)?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_region(region)) };
        Ok(())
    })
}

/// Makes a region of the whole object behind a descriptor: a memfd of another process, or a file.
/// The descriptor is duplicated, and still yours. Its length is the object's, any number of bytes
/// but 0.
///
/// A file that somebody shortens meanwhile raises SIGBUS where its bytes were. Regions made by
/// pagetie_region_new cannot be shortened.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID (also a negative fd), PAGETIE_EMPTY (no bytes),
/// PAGETIE_UNSUPPORTED (not a regular file), PAGETIE_NO_MEMORY, PAGETIE_LIMIT, PAGETIE_OS. Since
/// 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_from_fd(
    fd: c_int,
    options: *const pagetie_region_options,
    out: *mut *mut pagetie_region,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_from_fd", error, || {
        let out = output(out, "out")?;
        // SAFETY: the caller's promise.
        let builder = unsafe { options::region(options)? };
        if fd < 0 {
            return Err(Failure::Invalid("fd", i64::from(fd), None));
        }
        // SAFETY: not -1; a number that is no open descriptor is answered with EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let region = builder.from_fd(fd)?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_region(region)) };
        Ok(())
    })
}

/// Makes a region of the file at `path`, open for reading and writing where permissions allow that,
/// else for reading. Its length is the file's; the last page may be partial.
///
/// Fails as pagetie_region_from_fd does; PAGETIE_OS has the errno of open(2). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_open(
    path: *const c_char,
    options: *const pagetie_region_options,
    out: *mut *mut pagetie_region,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_open", error, || {
        if path.is_null() {
            return Err(Failure::Null("path", None));
        }
        let out = output(out, "out")?;
        // SAFETY: the caller's promise.
        let builder: RegionBuilder = unsafe { options::region(options)? };
        // SAFETY: not NULL, and NUL-terminated by the caller's promise.
        let path = unsafe { CStr::from_ptr(path) };
        let region = builder.open(OsStr::from_bytes(path.to_bytes()))?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_region(region)) };
        Ok(())
    })
}

/// Makes a region of `len` bytes of memory that you have already: they are copied once, and from then on
/// your own addresses show the region's pages, can be tied many times, and are pagetie_region_data. When
/// the region is freed they stay mapped, and their bytes stay yours.
///
/// `addr` (private anonymous memory, mmap'd by you, that can be read and written) and `len` are multiples
/// of the page size. Afterwards it is shared memory: a forked child sees what you write. All of it takes
/// memory.
///
/// You promise: the pages are plain data of yours alone; nobody writes them during the call (that would be
/// lost; readers see the same bytes throughout); until the region and its ties are gone nobody unmaps,
/// moves, protects or frees these addresses; no pointer that the compiler may have cached goes into them
/// across the call.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_NOT_MAPPED,
/// PAGETIE_REFUSED_MEMORY (not private anonymous, or not read-write), PAGETIE_UNSUPPORTED (without /proc;
/// locked in part), PAGETIE_OVERLAP (a live space, or pages that are lent), PAGETIE_LIMIT,
/// PAGETIE_NO_MEMORY, PAGETIE_OS. On failure the memory is as it was. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_adopt(
    addr: *mut c_void,
    len: usize,
    out: *mut *mut pagetie_region,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_adopt", error, || {
        output(addr, "addr")?;
        let out = output(out, "out")?;
        // SAFETY: the promises of `Region::adopt` are those of the header.
        let region = unsafe { Region::adopt(addr.cast(), len) }?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_region(region)) };
        Ok(())
    })
}

/// Frees the handle. The pages live as long as ties of them do. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_free(region: *mut pagetie_region) {
    // SAFETY: the caller's promise.
    unsafe { free(region) };
}

/// Its length in bytes; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_len(region: *const pagetie_region) -> usize {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(0, |region| region.0.len())
}

/// The page size of its memory in bytes: that of the system, or of its huge pages; 0 of NULL. Since
/// 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_page_size(region: *const pagetie_region) -> usize {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(0, |region| region.0.page_size())
}

/// The start of the host view, which never moves; NULL of NULL. Use volatile or atomic access while
/// the region is tied anywhere: the compiler does not know that the bytes have two addresses. Since
/// 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_data(region: *const pagetie_region) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(std::ptr::null_mut(), |region| region.0.as_ptr().cast())
}

/// The memory object's descriptor, still owned by the region, to hand to another process; -1: it
/// has none, and of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_fd(region: *const pagetie_region) -> c_int {
    use std::os::fd::AsRawFd;
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.and_then(|region| region.0.fd()).map_or(-1, |fd| fd.as_raw_fd())
}

/// Copies `len` bytes from `offset` on out of the region. While somebody writes them the copy may
/// tear between bytes; it never invents one. `into` has room for `len` bytes, which do not lie in
/// memory that shows this region. Any range of bytes; reading none is fine.
///
/// Fails as PAGETIE_NULL, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED (a region hidden from fork, in a
/// child). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_read(
    region: *const pagetie_region,
    offset: usize,
    into: *mut c_void,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_read", error, || {
        // SAFETY: the caller's promise.
        let region = unsafe { handle(region, "region")? };
        if into.is_null() {
            return Err(Failure::Null("into", None));
        }
        // SAFETY: the caller's promise: room for `len` bytes, which need not be initialised.
        unsafe { region.0.read_to(offset, into.cast(), len) }?;
        Ok(())
    })
}

/// Copies `len` bytes into the region from `offset` on. `from` has `len` readable bytes, which do
/// not lie in memory that shows this region. See pagetie_region_read.
///
/// Fails as PAGETIE_NULL, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED, PAGETIE_READ_ONLY. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_write(
    region: *const pagetie_region,
    offset: usize,
    from: *const c_void,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_write", error, || {
        // SAFETY: the caller's promise.
        let region = unsafe { handle(region, "region")? };
        if from.is_null() {
            return Err(Failure::Null("from", None));
        }
        // SAFETY: the caller's promise: `len` readable bytes.
        unsafe { region.0.write_from(offset, from.cast(), len) }?;
        Ok(())
    })
}

/// Makes the region `new_len` bytes long, up to `max_len` of its options: a multiple of its page
/// size, unless it is a file's. The new bytes are zeros, the view stays where it is, and ties are
/// not affected. The present length is fine.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_OUT_OF_RANGE (past max_len, or shorter than
/// it is), PAGETIE_ENDED, PAGETIE_READ_ONLY, PAGETIE_NO_MEMORY, PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_grow(
    region: *const pagetie_region,
    new_len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_grow", error, || {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle(region, "region")? }.0.grow(new_len)?)
    })
}

/// Makes huge pages of the region's memory where the kernel does that without privilege; best
/// effort: what cannot become huge stays as it is. `huge_bytes`, which may be NULL, gets how many
/// bytes are huge now.
///
/// Fails as PAGETIE_NULL, PAGETIE_ENDED. Since 0.1; nothing becomes huge before Linux 6.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_collapse(
    region: *const pagetie_region,
    huge_bytes: *mut usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_collapse", error, || {
        // SAFETY: the caller's promise.
        let collapsed = unsafe { handle(region, "region")? }.0.collapse()?;
        if !huge_bytes.is_null() {
            // SAFETY: not NULL, so writable by the caller's promise.
            unsafe { huge_bytes.write(collapsed) };
        }
        Ok(())
    })
}

/// Brings pages into memory and maps them into the host view, those of a file from disk. The range
/// of bytes need not be aligned; `len` is not 0.
///
/// Fails as PAGETIE_NULL, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED, PAGETIE_OS. Since
/// 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_prefetch(
    region: *const pagetie_region,
    offset: usize,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_prefetch", error, || {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle(region, "region")? }.0.prefetch_extent(Extent::new(offset, len))?)
    })
}

/// The bytes read zero from now on, through the host view and every tie, and their memory goes
/// back. Private pages of copy-on-write ties keep their bytes. Of a file only with allow_discard.
///
/// `offset` and `len` are multiples of the region's page size; the end may be the region's own.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED,
/// PAGETIE_READ_ONLY, PAGETIE_UNSUPPORTED, PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_region_discard(
    region: *const pagetie_region,
    offset: usize,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_region_discard", error, || {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle(region, "region")? }.0.discard_extent(Extent::new(offset, len))?)
    })
}
