//! Memory that a userfaultfd watches is not lent: a tie would end the registration, and whoever
//! serves the faults would not hear of it.

#![allow(unsafe_code, clippy::disallowed_methods, reason = "registers memory by system call")]

mod common;

use common::{Memory, skip};
use pagetie::{Access, ErrorKind, Region, TieOptions, page};

#[test]
fn watched_memory_is_refused_while_it_is_watched() {
    // UFFD_USER_MODE_ONLY
    let flags = libc::O_CLOEXEC | 1;
    // SAFETY: a new descriptor.
    let uffd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as libc::c_int;
    if uffd < 0 {
        return skip("no userfaultfd here");
    }
    let memory = Memory::private(8);
    memory.fill(1);
    let watched = memory.pages(2..4);
    let mut api = [0xaa_u64, 0, 0];
    let mut register = [watched.start as u64, watched.len() as u64, 1, 0];
    // SAFETY: UFFDIO_API and UFFDIO_REGISTER read and write these.
    unsafe {
        assert_eq!(libc::ioctl(uffd, 0xc018_aa3f, &mut api), 0);
        assert_eq!(libc::ioctl(uffd, 0xc020_aa00, &mut register), 0);
    }
    let error = memory.try_borrow(memory.all()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RefusedMemory);
    assert_eq!(error.other_range(), Some(watched), "{error}");
    drop(memory.try_borrow(memory.pages(4..8)).expect("the rest is not watched"));
    // SAFETY: ours; closing it ends the registration.
    unsafe { libc::close(uffd) };

    // And what `concurrent` registers for a moment is not left registered.
    let space = memory.borrow();
    let region = Region::new(2 * page::size()).unwrap();
    let how = TieOptions::new(Access::ReadWrite).concurrent(true);
    space.tie(0, &region, .., how).unwrap().untie().unwrap();
    drop(space);
    drop(memory.borrow());
}

/// The kernel takes whole pages only, and a memory from an allocator does not start on one.
#[test]
fn memory_that_starts_inside_a_page_is_not_mistaken_for_watched() {
    let memory = Memory::private(4);
    let pages = memory.all();
    drop(memory.try_borrow(pages.start + 16..pages.end - 16).expect("borrow"));
}
