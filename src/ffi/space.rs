//! `pagetie_space_*`, and the verbs that act on a space.

use super::options::{RawAccess, RawProt, pagetie_space_options};
use super::{
    Failure, free, give, guard, handle, options, output, pagetie_error, pagetie_status, quietly,
};
use crate::Space;
use crate::page::Extent;
use std::ffi::c_void;

/// Addresses that ties may be laid over. Made by pagetie_space_reserve and pagetie_space_borrow.
#[derive(Debug)]
pub struct pagetie_space(pub(super) Space);

/// One tie of a space. May grow: arrays carry item_size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_tie_info {
    /// Where in the space, in bytes.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The byte of the region that it begins with.
    pub offset: usize,
    /// What it may do.
    pub access: RawAccess,
    /// 1: a handle lives; 0: its tie_free could not untie it, or a part of it was replaced by somebody
    /// else; pagetie_untie_all tries again.
    pub held: i32,
}

/// What the kernel says of a range. May grow: arrays carry item_size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_mapping {
    /// The first address.
    pub addr: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The byte of the object that addr shows; 0 for anonymous memory.
    pub offset: u64,
    /// The object's inode number; 0 for anonymous memory.
    pub inode: u64,
    /// What its addresses allow.
    pub prot: RawProt,
    /// 0 private, 1 shared.
    pub shared: i32,
}

const _: () = assert!(size_of::<pagetie_tie_info>() == 32);
const _: () = assert!(size_of::<pagetie_mapping>() == 40);

/// Writes a list into a caller's array, of each item as much as both sides know, and its full length.
///
/// # Safety
/// `into` is NULL with a capacity of 0, or has room for `capacity` items of `item_size` bytes; `count` is
/// writable; `T` has no padding.
unsafe fn list<T: Copy>(
    items: &[T],
    into: *mut T,
    capacity: usize,
    item_size: usize,
    count: *mut usize,
) {
    let known = item_size.min(size_of::<T>());
    for (i, item) in items.iter().take(capacity).enumerate() {
        // SAFETY: the caller's promise: item `i` of the array has `item_size` bytes of room.
        unsafe {
            let place = into.cast::<u8>().add(i * item_size);
            place.copy_from_nonoverlapping(std::ptr::from_ref(item).cast(), known);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { count.write(items.len()) };
}

/// Checks the array that a list shall be written into.
fn check_list<T>(
    into: *mut T,
    capacity: usize,
    item_size: usize,
    count: *mut usize,
) -> Result<(), Failure> {
    output(count, "count")?;
    if capacity > 0 {
        output(into, "into")?;
        if item_size == 0 || item_size.checked_mul(capacity).is_none() {
            return Err(Failure::Invalid("item_size", item_size as i64, None));
        }
    }
    Ok(())
}

/// Reserves `len` bytes of addresses: 2 MiB aligned, with an inaccessible guard page before and
/// after. All of it is inaccessible at first; pagetie_protect makes parts of it memory. This is the
/// way to run an engine that takes its memory from outside, and needs no promise.
///
/// `len` is a multiple of the page size, not 0. Release it with pagetie_space_free, which unmaps
/// it.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE,
/// PAGETIE_NO_MEMORY, PAGETIE_LIMIT. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_reserve(
    len: usize,
    out: *mut *mut pagetie_space,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_reserve", error, || {
        let out = output(out, "out")?;
        let space = Space::reserve(len)?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_space(space)) };
        Ok(())
    })
}

/// Borrows `memory_len` bytes that somebody else owns, such as a WebAssembly engine's linear
/// memory. Neither start nor length need be aligned; ties lie over the whole pages between.
///
/// You promise, until pagetie_untie_all returned OK or the space is gone:
/// (1) the owner of the range allows other pages to be mapped over it;
/// (2) it stays: not unmapped, moved, recycled or reset;
/// (3) no other thread maps, unmaps or protects inside it during a call on this space;
/// (4) no code holds a reference or cached value of a byte across a call that changes what the
/// address shows, nor while a tied page is written through another alias.
///
/// Fails as PAGETIE_NULL, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_NOT_MAPPED,
/// PAGETIE_REFUSED_MEMORY, PAGETIE_OVERLAP (memory of another live space), PAGETIE_UNSUPPORTED
/// (without /proc), PAGETIE_NO_MEMORY, PAGETIE_LIMIT, PAGETIE_OS. Release it with
/// pagetie_space_free. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_borrow(
    memory_start: *mut c_void,
    memory_len: usize,
    out: *mut *mut pagetie_space,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_borrow", error, || {
        // SAFETY: the caller's promise.
        unsafe { borrow(memory_start, memory_len, std::ptr::null(), out) }
    })
}

/// pagetie_space_borrow with options; NULL options are the defaults. With allow_heap you promise
/// besides that nothing in the range is freed while it is tied.
///
/// Fails as pagetie_space_borrow does; PAGETIE_INVALID. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_borrow_with(
    memory_start: *mut c_void,
    memory_len: usize,
    options: *const pagetie_space_options,
    out: *mut *mut pagetie_space,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_borrow_with", error, || {
        // SAFETY: the caller's promise.
        unsafe { borrow(memory_start, memory_len, options, out) }
    })
}

/// # Safety
/// As pagetie_space_borrow_with.
unsafe fn borrow(
    start: *mut c_void,
    len: usize,
    options: *const pagetie_space_options,
    out: *mut *mut pagetie_space,
) -> Result<(), Failure> {
    let start = output(start, "memory_start")?.cast();
    let out = output(out, "out")?;
    // SAFETY: the caller's promise.
    let heap_allowed = unsafe { options::heap_allowed(options)? };
    // SAFETY: the four promises are the caller's.
    let space = unsafe {
        match heap_allowed {
            false => Space::borrow(start, len)?,
            true => Space::borrow_heap(start, len)?,
        }
    };
    // SAFETY: not NULL, so writable by the caller's promise.
    unsafe { give(out, pagetie_space(space)) };
    Ok(())
}

/// Takes note that borrowed memory grew in place to `memory_len` bytes. The promises of
/// pagetie_space_borrow hold for the new length. What pagetie_protect forbade, and stores to
/// read-only ties, are forbidden again: V8 allows everything when it grows. Call it before the guest
/// goes on; growth by nothing is fine.
///
/// Fails as PAGETIE_NULL, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE (shorter), PAGETIE_CHANGED (another
/// start: the engine moved its memory; use pagetie_space_leak and borrow anew), PAGETIE_NOT_MAPPED,
/// PAGETIE_REFUSED_MEMORY, PAGETIE_OVERLAP, PAGETIE_UNSUPPORTED (a reserved space), PAGETIE_ENDED;
/// PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS: the growth is noted, and something that was
/// forbidden may still be allowed. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_grown_to(
    space: *const pagetie_space,
    memory_start: *mut c_void,
    memory_len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_grown_to", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        let start = output(memory_start, "memory_start")?.cast();
        // SAFETY: the promises are the caller's.
        unsafe { space.0.grown_to(start, memory_len) }?;
        Ok(())
    })
}

/// Frees the space: its ties end, what they covered comes back, and a reservation is unmapped.
/// Handles of its ties stay, ended, and must still be freed. Call pagetie_untie_all first if you
/// must know that nothing is left. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_free(space: *mut pagetie_space) {
    // SAFETY: the caller's promise.
    unsafe { free(space) };
}

/// Frees the space where its memory is gone or going: touches none of its addresses, releases our
/// side. A reservation stays reserved for good. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_leak(space: *mut pagetie_space) {
    if !space.is_null() {
        // SAFETY: made by `give`, and not freed by the caller's promise.
        let space = unsafe { Box::from_raw(space) };
        quietly((), move || space.0.leak());
    }
}

/// The address of its first byte; NULL of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_base(space: *const pagetie_space) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { space.as_ref() }.map_or(std::ptr::null_mut(), |space| space.0.as_ptr().cast())
}

/// Its length in bytes; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_len(space: *const pagetie_space) -> usize {
    // SAFETY: the caller's promise.
    unsafe { space.as_ref() }.map_or(0, |space| space.0.len())
}

/// Lists the ties of a space in the order of addresses: our record of them, not the kernel's.
///
/// `into` has room for `capacity` items of `item_size` bytes, which is sizeof(pagetie_tie_info),
/// and may be NULL when `capacity` is 0. Of each item as much is written as both sides know.
/// `*count` is the full number even when it is more than `capacity`.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID (item_size). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_ties(
    space: *const pagetie_space,
    into: *mut pagetie_tie_info,
    capacity: usize,
    item_size: usize,
    count: *mut usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_ties", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        check_list(into, capacity, item_size, count)?;
        let infos: Vec<pagetie_tie_info> = space
            .0
            .ties()
            .into_iter()
            .map(|tie| pagetie_tie_info {
                at: tie.at,
                len: tie.len,
                offset: tie.offset,
                access: tie.access.into(),
                held: i32::from(tie.held),
            })
            .collect();
        // SAFETY: checked above, and the caller's promise.
        unsafe { list(&infos, into, capacity, item_size, count) };
        Ok(())
    })
}

/// Asks the kernel what is mapped in [at, at + len) of the space, in bytes that need not be
/// aligned; `len` is not 0. Addresses of which nothing is returned have nothing mapped. The array
/// is as in pagetie_space_ties, of pagetie_mapping.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID (item_size), PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE,
/// PAGETIE_ENDED, PAGETIE_UNSUPPORTED (without /proc), PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_inspect(
    space: *const pagetie_space,
    at: usize,
    len: usize,
    into: *mut pagetie_mapping,
    capacity: usize,
    item_size: usize,
    count: *mut usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_inspect", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        check_list(into, capacity, item_size, count)?;
        let mappings: Vec<pagetie_mapping> = space
            .0
            .shared()
            .inspect(Extent::new(at, len))?
            .into_iter()
            .map(|mapping| pagetie_mapping {
                addr: mapping.addr.start,
                len: mapping.addr.len(),
                offset: mapping.offset,
                inode: mapping.inode,
                prot: mapping.prot.into(),
                shared: i32::from(mapping.shared),
            })
            .collect();
        // SAFETY: checked above, and the caller's promise.
        unsafe { list(&mappings, into, capacity, item_size, count) };
        Ok(())
    })
}

/// Changes what the addresses [at, at + len) allow, tied or not: whole pages, so both are multiples
/// of the page size, as addresses. A tie's access is a ceiling. On failure every page allows what
/// it did before.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE,
/// PAGETIE_ENDED, PAGETIE_READ_ONLY, PAGETIE_NOT_MAPPED, PAGETIE_REFUSED_MEMORY, PAGETIE_CHANGED,
/// PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_protect(
    space: *const pagetie_space,
    at: usize,
    len: usize,
    prot: RawProt,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_protect", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        Ok(space.0.shared().protect(Extent::new(at, len), prot.check()?)?)
    })
}

/// Throws away the bytes behind the addresses [at, at + len), multiples of the page size. Of a
/// read-write tie: the region's bytes read zero through every alias. Of a copy-on-write tie:
/// private changes go. Of untied private memory: as it was first mapped. Read-only ties are
/// refused, and so is untied shared memory.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED,
/// PAGETIE_READ_ONLY, PAGETIE_UNSUPPORTED, PAGETIE_NOT_MAPPED, PAGETIE_REFUSED_MEMORY,
/// PAGETIE_CHANGED, PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_discard(
    space: *const pagetie_space,
    at: usize,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_discard", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        Ok(space.0.shared().discard(Extent::new(at, len))?)
    })
}

/// One range of pagetie_discard_many. Never grows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_range {
    /// Where in the space, in bytes.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// pagetie_discard of many ranges, in fewer system calls: neighbours become one, and scattered
/// private pages go in batches where the kernel has that. All are checked before the first byte
/// goes; they may come in any order, and overlap. No ranges: OK, and `ranges` may be NULL.
///
/// Fails as pagetie_discard does, with the number of the range in error.index. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_discard_many(
    space: *const pagetie_space,
    ranges: *const pagetie_range,
    count: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_discard_many", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        if count == 0 {
            return Ok(space.0.shared().discard_extents(std::iter::empty())?);
        }
        output(ranges.cast_mut(), "ranges")?;
        if count > isize::MAX as usize / size_of::<pagetie_range>() {
            return Err(Failure::Invalid("count", count as i64, None));
        }
        // SAFETY: not NULL, `count` readable ranges by the caller's promise, of integers.
        let ranges = unsafe { std::slice::from_raw_parts(ranges, count) };
        let extents = ranges.iter().map(|range| Extent::new(range.at, range.len));
        Ok(space.0.shared().discard_extents(extents)?)
    })
}

/// Ends every tie of the space; handles stay, ended. OK means: no alias of ours is left, the memory
/// may be handed back or recycled. An empty space: OK. On failure the status is that of the first
/// tie that could not be ended, after all were tried.
///
/// Fails as PAGETIE_NULL, PAGETIE_CHANGED, PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_ENDED (in a
/// forked child), PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_untie_all(
    space: *const pagetie_space,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_untie_all", error, || {
        // SAFETY: the caller's promise.
        Ok(unsafe { handle(space, "space")? }.0.untie_all()?)
    })
}
