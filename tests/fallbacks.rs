//! Older kernels and stricter hosts: every fallback is forced, and gives the same answer.
//!
//! A filter of system calls makes the newer facility fail as it does where it is missing. The same
//! scenario runs as this kernel is and with the filter, each in a process of its own.

#![allow(unsafe_code, reason = "maps, locks and filters behind the crate's back")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::ptr;

use common::{Memory, PRIVATE, Picture, assert_bytes, assert_zero, map, map_at, maps_in, mprotect};
use common::{page, pattern, peek, poke, region, unmap};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{
    Access, Covered, ErrorKind, Mapping, Prefault, Prot, Region, Space, Tie, TieOptions,
};
use seccomp::{Deny, When};

const RW: i32 = PROT_READ | PROT_WRITE;

/// From here on the calls of `rules` fail. `false`, visibly, where filters cannot be had.
fn filtered(rules: &[Deny]) -> bool {
    match seccomp::deny(rules) {
        Ok(()) => true,
        Err(error) => {
            common::skip(format!("needs seccomp filters ({error})"));
            false
        }
    }
}

/// Runs a scenario with the calls of `rules` failing.
fn under(rules: &[Deny], scenario: fn()) {
    if rules.is_empty() || filtered(rules) {
        scenario();
    }
}

/// One value of madvise's third argument.
fn advice(value: i32, errno: i32) -> Deny {
    let when = When::Equal { arg: 2, mask: u32::MAX, value: value as u32 };
    Deny { call: libc::SYS_madvise, when, errno }
}

// ------------------------------------------------------------------------------ PROCMAP_QUERY

/// Before Linux 6.11: the ioctl is not there, and the list of mappings is read as text.
fn no_query() -> [Deny; 1] {
    // The kernel's `struct procmap_query` has 104 bytes.
    let request = libc::_IOWR::<[u64; 13]>(b'f'.into(), 17);
    let when = When::Equal { arg: 1, mask: u32::MAX, value: request as u32 };
    [Deny { call: libc::SYS_ioctl, when, errno: libc::ENOTTY }]
}

#[test]
fn without_the_query_mappings_are_read_alike() {
    child::lives("as it is", || under(&[], mappings_are_read));
    child::lives("text", || under(&no_query(), mappings_are_read));
}

/// What `inspect` should say, from the kernel's text as the tests read it.
fn expected(range: Range<usize>) -> Vec<(Range<usize>, Prot, bool, bool, u64, u64)> {
    let lines = maps_in(range.clone());
    let of = |line: &common::Line| {
        let addr = line.range.start.max(range.start)..line.range.end.min(range.end);
        let has = |letter| line.perms.contains(letter);
        let prot = match (has('r'), has('w')) {
            (_, true) => Prot::ReadWrite,
            (true, false) => Prot::Read,
            (false, false) => Prot::None,
        };
        let skipped = if line.inode == 0 { 0 } else { addr.start - line.range.start };
        (addr, prot, has('x'), has('s'), line.offset + skipped as u64, line.inode)
    };
    lines.iter().map(of).collect()
}

#[track_caller]
fn assert_inspect(space: &Space, at: Range<usize>) -> usize {
    let start = space.as_ptr().expose_provenance();
    let found: Vec<Mapping> = space.inspect(at.clone()).expect("inspect");
    let found: Vec<_> = found
        .into_iter()
        .map(|m| (m.addr, m.prot, m.executable, m.shared, m.offset, m.inode))
        .collect();
    assert_eq!(found, expected(start + at.start..start + at.end));
    found.len()
}

/// A file with this path, of two pages.
fn file_at(path: &std::path::Path) -> File {
    fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path);
    let file = file.as_mut().expect("a file");
    file.write_all(&pattern(5, 2 * page())).expect("fill the file");
    file.try_clone().expect("duplicate a descriptor")
}

/// A memory object with this name.
fn named_memfd(name: &std::ffi::CStr, flags: libc::c_uint, len: usize) -> io::Result<File> {
    // SAFETY: the name is a C string, and the call touches no memory of ours.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len as u64)?;
    Ok(file)
}

fn mappings_are_read() {
    // Names that a reader of text may trip over: none of these is a heap or a stack.
    let dir = tempfile::tempdir().unwrap();
    let long: std::path::PathBuf = (0..12).map(|_| "\n".repeat(250)).collect();
    let files = [
        file_at(&dir.path().join("[heap]")),
        file_at(&dir.path().join("a b\n00000000-ffffffff rwxp 0 00:00 0 [stack]")),
        file_at(&dir.path().join(long).join("long")),
        named_memfd(c"[heap]", 0, 2 * page()).unwrap(),
        named_memfd(c"[stack]", 0, 2 * page()).unwrap(),
    ];
    let memory = Memory::private(4 * files.len() + 2);
    memory.fill(2);
    for (i, file) in files.iter().enumerate() {
        map(memory.pages(4 * i + 1..4 * i + 3).start, 2 * page(), RW, MAP_PRIVATE, Some(file));
        let second = memory.pages(4 * i + 3..4 * i + 4).start;
        map_at(second, page(), PROT_READ, MAP_SHARED, Some(file), page());
    }
    mprotect(memory.pages(8..9), PROT_NONE);
    let space = memory.borrow();
    assert!(assert_inspect(&space, 0..space.len()) > 3 * files.len());
    for first in 0..8 {
        for last in 9..14 {
            assert_inspect(&space, first * page()..last * page());
        }
    }
    // A tie over all of them and back.
    let region = region(1, 4 * files.len());
    let before = Picture::take(&[memory.all()]);
    let tie = space.tie(page(), &region, .., Access::ReadWrite).unwrap();
    assert_eq!(assert_inspect(&space, 0..space.len()), 3);
    assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
    space.protect(2 * page()..3 * page(), Prot::Read).unwrap();
    assert_eq!(assert_inspect(&space, 0..space.len()), 5);
    space.protect(2 * page()..3 * page(), Prot::ReadWrite).unwrap();
    tie.untie().unwrap();
    before.assert_same(&Picture::take(&[memory.all()]), "untied");

    many_mappings();
    changed_is_seen();
    borrow_refuses();
}

/// More text than one read returns, with lines cut anywhere.
fn many_mappings() {
    const PAGES: usize = 4000;
    let memory = Memory::private(PAGES);
    for i in (0..PAGES).step_by(2) {
        mprotect(memory.pages(i..i + 1), PROT_READ);
    }
    let space = memory.borrow();
    assert_eq!(assert_inspect(&space, 0..space.len()), PAGES);
    assert_inspect(&space, 1001 * page()..1003 * page());
    let before = maps_in(memory.arena());
    let region = region(1, 100);
    let tie = space.tie(2000 * page(), &region, .., Access::ReadWrite).unwrap();
    assert_eq!(assert_inspect(&space, 0..space.len()), PAGES - 99);
    tie.untie().unwrap();
    assert_eq!(maps_in(memory.arena()), before);
}

/// Ties that somebody replaced are neither untied nor retied, and what lies there stays.
fn changed_is_seen() {
    let replaced = |what: &str, replace: &dyn Fn(&Tie), left: bool| {
        let (memory, region) = (Memory::private(8), region(1, 4));
        memory.fill(2);
        let space = memory.borrow();
        let tie = space.tie(2 * page(), &region, ..2 * page(), Access::ReadWrite).unwrap();
        replace(&tie);
        let lines = maps_in(memory.arena());
        let bytes = common::read(memory.all());
        let refused = tie.untie().expect_err(what);
        assert_eq!(refused.error.kind(), ErrorKind::Changed, "{what}: {refused}");
        assert!(!refused.tie.is_live());
        drop(refused);
        assert_eq!(maps_in(memory.arena()), lines, "{what}");
        assert_eq!(common::read(memory.all()), bytes, "{what}");
        let held: Vec<bool> = space.ties().iter().map(|tie| tie.held).collect();
        assert_eq!(held, if left { vec![false] } else { vec![] }, "{what}");
        if left {
            let error = space.untie_all().expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Changed, "{what}: {error}");
            map(memory.pages(2..4).start, 2 * page(), RW, PRIVATE, None);
        }
        space.untie_all().unwrap();
        assert!(space.ties().is_empty());
    };
    let fd = |tie: &Tie| {
        let fd = tie.region().fd().expect("a descriptor");
        File::from(fd.try_clone_to_owned().expect("duplicate a descriptor"))
    };
    let addr = |tie: &Tie| tie.as_ptr().expose_provenance();
    let other = common::memfd(&pattern(9, 4 * page()));
    replaced(
        "anonymous memory",
        &|tie| {
            map(addr(tie), 2 * page(), RW, PRIVATE, None);
        },
        false,
    );
    replaced(
        "another object",
        &|tie| {
            map(addr(tie), 2 * page(), RW, MAP_SHARED, Some(&other));
        },
        false,
    );
    replaced(
        "other pages of the region",
        &|tie| {
            map_at(addr(tie), 2 * page(), RW, MAP_SHARED, Some(&fd(tie)), 2 * page());
        },
        false,
    );
    replaced(
        "the same pages, private",
        &|tie| {
            map(addr(tie), 2 * page(), RW, MAP_PRIVATE, Some(&fd(tie)));
        },
        false,
    );
    replaced(
        "the first page",
        &|tie| {
            map(addr(tie), page(), RW, PRIVATE, None);
        },
        true,
    );
    replaced(
        "the last page",
        &|tie| {
            map(addr(tie) + page(), page(), RW, PRIVATE, None);
        },
        true,
    );
}

#[track_caller]
fn assert_refused(what: &str, range: Range<usize>, kind: ErrorKind) {
    // SAFETY: the call is to be refused; it changes nothing then.
    let space =
        unsafe { Space::borrow(ptr::with_exposed_provenance_mut(range.start), range.len()) };
    match space {
        Ok(_) => panic!("{what} was lent"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}

fn borrow_refuses() {
    use ErrorKind::{NotMapped, RefusedMemory};
    let one = |addr: usize| {
        let start = addr / page() * page();
        start..start + page()
    };
    assert_refused("NULL", 0..page(), NotMapped);
    let memory = Memory::private(8);
    unmap(memory.pages(3..4));
    assert_refused("a hole", memory.pages(3..4), NotMapped);
    assert_refused("a hole in the middle", memory.all(), NotMapped);
    assert_refused("a hole at the end", memory.pages(0..4), NotMapped);
    assert_refused("a hole at the start", memory.pages(3..8), NotMapped);
    map(memory.pages(3..4).start, page(), PROT_READ | libc::PROT_EXEC, PRIVATE, None);
    assert_refused("an executable page", memory.all(), RefusedMemory);
    assert_refused("code", one(borrow_refuses as *const () as usize), RefusedMemory);

    let local = 0u8;
    assert_refused("the caller's stack", one(&raw const local as usize), RefusedMemory);
    let lines = common::maps();
    let stack = lines.iter().find(|line| line.name == "[stack]").expect("a main stack");
    assert_refused("the main stack", one(stack.range.end - 1), RefusedMemory);

    // A block of the allocator that has a page of its own. Never freed: a space may cover it.
    let mut block = ptr::null_mut();
    // SAFETY: `block` is a valid place for the answer.
    let rc = unsafe { libc::posix_memalign(&mut block, page(), page()) };
    assert_eq!(rc, 0, "posix_memalign");
    let block = block.expose_provenance();
    assert_eq!(common::map_of(block).name, "[heap]");
    common::write(block, &pattern(3, page()));
    assert_refused("the heap", one(block), RefusedMemory);
    // SAFETY: the block is the test's, is never freed, and is read and written volatile.
    let heap =
        unsafe { Space::borrow_heap(ptr::with_exposed_provenance_mut(block), page()) }.unwrap();
    let tie = heap.tie(0, &region(1, 1), .., Access::ReadOnly).unwrap();
    assert_bytes(block, &pattern(1, page()), "tied over a block of the heap");
    tie.untie().unwrap();
    assert_bytes(block, &pattern(3, page()), "a block of the heap, untied");

    // Huge pages, without taking any from the pool: mapped without reserve, and never touched.
    let (huge, _) = common::huge_pages();
    let private = MAP_PRIVATE | MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE;
    // SAFETY: maps new memory wherever the kernel likes.
    let pages = unsafe { libc::mmap(ptr::null_mut(), huge.max(1), RW, private, -1, 0) };
    if huge == 0 || pages == libc::MAP_FAILED {
        common::skip("borrowing huge pages: none can be mapped");
    } else {
        let start = pages.expose_provenance();
        assert_refused("huge pages", start..start + huge, RefusedMemory);
        unmap(start..start + huge);
        // Of these the text of the kernel does not say so.
        let file = named_memfd(c"plain", libc::MFD_HUGETLB, huge).expect("huge pages again");
        let start = map(0, huge, RW, MAP_SHARED | libc::MAP_NORESERVE, Some(&file));
        assert_refused("a memory object of huge pages", start..start + huge, RefusedMemory);
        unmap(start..start + huge);
    }

    // A memory that grew is asked about in the same way.
    let memory = Memory::private(8);
    let space = memory.try_borrow(memory.pages(0..4)).unwrap();
    unmap(memory.pages(6..7));
    // SAFETY: the memory is the test's own, as for `borrow`.
    let grow = |pages: usize| unsafe { space.grown_to(space.as_ptr(), pages * page()) };
    let error = grow(8).expect_err("grown over a hole");
    assert_eq!(error.kind(), NotMapped, "{error}");
    assert_eq!(space.len(), 4 * page());
    grow(6).unwrap();
    space.tie(4 * page(), &region(1, 2), .., Access::ReadWrite).unwrap().untie().unwrap();
    let error = space.tie(5 * page(), &region(1, 2), .., Access::ReadWrite).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
}

// ------------------------------------------------------------------------------ userfaultfd

/// Kernels without userfaultfd, containers that forbid it.
#[test]
fn without_userfaultfd_concurrent_is_refused() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        child::lives(&format!("error {errno}"), || {
            let deny = Deny { call: libc::SYS_userfaultfd, when: When::Always, errno };
            if !filtered(&[deny]) {
                return;
            }
            let (memory, region) = (Memory::private(8), region(1, 4));
            memory.fill(2);
            let space = memory.borrow();
            let how = TieOptions::new(Access::ReadWrite);
            let before = Picture::take(&[memory.all()]);
            for _ in 0..2 {
                let tied = space.tie(2 * page(), &region, .., how.concurrent(true));
                let error = tied.expect_err("a tie that cannot be concurrent");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                let text = error.to_string();
                assert!(text.contains("concurrent") && text.contains("userfaultfd"), "{text}");
                before.assert_same(&Picture::take(&[memory.all()]), "refused");
                assert!(space.ties().is_empty());
            }
            let tie = space.tie(2 * page(), &region, .., how).unwrap();
            assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "a plain tie");
            tie.untie().unwrap();
            before.assert_same(&Picture::take(&[memory.all()]), "untied");

            // What has no moment to close needs no userfaultfd: discarded or shared memory.
            let discard = how.covered(Covered::Discard).concurrent(true);
            space.tie(2 * page(), &region, .., discard).unwrap().untie().unwrap();
            let shared = Memory::shared(8);
            let bytes = shared.fill(3);
            let space = shared.borrow();
            let tie = space.tie(2 * page(), &region, .., how.concurrent(true)).unwrap();
            tie.untie().unwrap();
            assert_bytes(shared.start(), &bytes, "shared memory, untied");
        });
    }
}

// ------------------------------------------------------------------------------ memfd_create

fn region_works() {
    let region = Region::builder().name("fallback").build(4 * page()).unwrap();
    region.write_at(0, &pattern(1, region.len())).unwrap();
    let space = Space::reserve(4 * page()).unwrap();
    let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
    assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
    // Sealed against shrinking, however it was made.
    let file = File::from(region.fd().unwrap().try_clone_to_owned().unwrap());
    let error = file.set_len(page() as u64).expect_err("shrunk");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    tie.untie().unwrap();
}

/// Before Linux 6.3 the no-exec flag is an invalid argument; where `vm.memfd_noexec` is 2, nothing
/// else is allowed.
#[test]
fn a_region_is_made_with_and_without_the_no_exec_flag() {
    const NOEXEC_SEAL: u32 = 8;
    child::lives("as it is", || under(&[], region_works));
    child::lives("not known", || {
        let when = When::Equal { arg: 1, mask: NOEXEC_SEAL, value: NOEXEC_SEAL };
        under(&[Deny { call: libc::SYS_memfd_create, when, errno: libc::EINVAL }], region_works);
    });
    child::lives("demanded", || {
        let when = When::Without { arg: 1, mask: NOEXEC_SEAL };
        under(&[Deny { call: libc::SYS_memfd_create, when, errno: libc::EACCES }], region_works);
    });
}

// ------------------------------------------------------------------------------ MADV_POPULATE

/// Which pages of a range this process has in its page tables.
fn present(range: Range<usize>) -> Vec<bool> {
    let mut file = File::open("/proc/self/pagemap").expect("the page map");
    file.seek(io::SeekFrom::Start((range.start / page() * 8) as u64)).expect("seek");
    let mut bytes = vec![0; range.len() / page() * 8];
    file.read_exact(&mut bytes).expect("read the page map");
    let entries = bytes.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap()));
    entries.map(|entry| entry >> 63 != 0).collect()
}

#[track_caller]
fn assert_present(tie: &Tie) {
    let start = tie.as_ptr().expose_provenance();
    assert_eq!(present(start..start + tie.len()), vec![true; tie.len() / page()]);
}

fn prefault_maps_pages() {
    const PAGES: usize = 20;
    let bytes = pattern(1, PAGES * page());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let regions = [
        region(1, PAGES),
        Region::open(file.path()).unwrap(),
        Region::builder().read_only(true).open(file.path()).unwrap(),
    ];
    let space = Space::reserve(PAGES * page()).unwrap();
    for region in &regions {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            if region.is_read_only() && access == Access::ReadWrite {
                continue;
            }
            let how = TieOptions::new(access);
            // A check of the check: nothing is there without being asked for.
            let lazy = space.tie(0, region, .., how).unwrap();
            let start = lazy.as_ptr().expose_provenance();
            assert_eq!(present(start..start + lazy.len()), [false; PAGES]);
            lazy.untie().unwrap();

            let tie = space.tie(0, region, .., how.prefault(Prefault::Populate)).unwrap();
            assert_present(&tie);
            assert_bytes(start, &bytes, "populated");
            if !region.is_read_only() {
                // It still follows the region.
                region.write_at(5, &[!bytes[5]]).unwrap();
                assert_eq!(peek(start + 5), !bytes[5], "{access:?}, populated");
                region.write_at(5, &bytes[5..6]).unwrap();
            }
            tie.untie().unwrap();
        }
        let how = TieOptions::new(Access::CopyOnWrite).prefault(Prefault::Copy);
        let tie = space.tie(0, region, .., how).unwrap();
        assert_present(&tie);
        let start = tie.as_ptr().expose_provenance();
        assert_bytes(start, &bytes, "copied");
        if !region.is_read_only() {
            for at in (0..region.len()).step_by(page()) {
                region.write_at(at, &[!bytes[at]]).unwrap();
            }
            assert_bytes(start, &bytes, "copied, and so its own");
            region.write_at(0, &bytes).unwrap();
        }
        tie.untie().unwrap();
    }
    assert_eq!(fs::read(file.path()).unwrap(), bytes);

    // A region that takes all of its memory now.
    let region = Region::builder().prefault(true).build(PAGES * page()).unwrap();
    let file = File::from(region.fd().unwrap().try_clone_to_owned().unwrap());
    assert!(file.metadata().unwrap().blocks() * 512 >= region.len() as u64);
    let view = region.as_ptr().expose_provenance();
    assert_eq!(present(view..view + region.len()), [true; PAGES]);
    assert_zero(view..view + region.len(), "a new region");

    // Of a sparse region only what is asked for is allocated, and all of that.
    let sparse = Region::new(PAGES * page()).unwrap();
    let how = TieOptions::new(Access::ReadWrite).prefault(Prefault::Populate);
    let tie = space.tie(0, &sparse, 4 * page()..8 * page(), how).unwrap();
    assert_present(&tie);
    let file = File::from(sparse.fd().unwrap().try_clone_to_owned().unwrap());
    let allocated = file.metadata().unwrap().blocks() * 512;
    assert!((4 * page()..sparse.len()).contains(&(allocated as usize)), "{allocated} bytes");
    tie.untie().unwrap();
}

/// Before Linux 5.14: pages are touched one by one.
#[test]
fn without_populate_prefault_touches() {
    child::lives("as it is", || under(&[], prefault_maps_pages));
    child::lives("touched", || {
        let rules = [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE];
        under(&rules.map(|value| advice(value, libc::EINVAL)), prefault_maps_pages);
    });
}

// ------------------------------------------------------------------------------ MADV_DONTNEED_LOCKED

fn locked_memory_is_discarded() {
    let lock = |range: Range<usize>| common::mlock(range).expect("lock a few pages");
    let bytes = pattern(1, 4 * page());
    let region = region(1, 4);

    // Locked pages that no tie covers; and only half of those that go.
    for locked in [0..8, 3..4, 2..4] {
        let memory = Memory::private(8);
        let filled = memory.fill(2);
        let space = memory.borrow();
        lock(memory.pages(locked.clone()));
        let lines = common::flags(memory.all());
        let before = common::locked();
        space.discard(2 * page()..5 * page()).unwrap();
        assert_zero(memory.pages(2..5), "discarded");
        assert_bytes(memory.start(), &filled[..2 * page()], "before what was discarded");
        assert_bytes(memory.pages(5..8).start, &filled[5 * page()..], "after it");
        assert_eq!(common::locked(), before, "locked bytes");
        assert_eq!(common::flags(memory.all()), lines, "locked pages {locked:?}");
    }

    // A copy-on-write tie that the engine locked: the region shows again, and the lock stays.
    let space = Space::reserve(8 * page()).unwrap();
    let tie = space.tie(2 * page(), &region, .., Access::CopyOnWrite).unwrap();
    let start = tie.as_ptr().expose_provenance();
    lock(start..start + tie.len());
    let before = common::locked();
    for at in (0..tie.len()).step_by(page()) {
        poke(start + at, !bytes[at]);
    }
    space.discard(2 * page()..5 * page()).unwrap();
    assert_bytes(start, &bytes[..3 * page()], "private changes went");
    assert_eq!(peek(start + 3 * page()), !bytes[3 * page()]);
    assert_eq!(common::locked(), before, "locked bytes");
    tie.untie().unwrap();

    // A read-write tie: the region's pages go, through a lock too.
    let tie = space.tie(2 * page(), &region, .., Access::ReadWrite).unwrap();
    lock(start..start + tie.len());
    let before = common::locked();
    space.discard(2 * page()..4 * page()).unwrap();
    assert_zero(start..start + 2 * page(), "discarded in the region");
    assert_bytes(start + 2 * page(), &bytes[2 * page()..], "the rest of the region");
    assert_eq!(common::locked(), before, "locked bytes");
    tie.untie().unwrap();

    // A private map of a file: the image shows again.
    let image = Memory::image(&pattern(5, 8 * page()));
    let space = image.borrow();
    common::write(image.start(), &pattern(6, 8 * page()));
    lock(image.all());
    space.discard(2 * page()..5 * page()).unwrap();
    let shown = &pattern(5, 8 * page())[2 * page()..5 * page()];
    assert_bytes(image.pages(2..5).start, shown, "the image");
    assert_bytes(image.start(), &pattern(6, 2 * page()), "before what was discarded");
}

/// Before Linux 5.18: locked memory is unlocked for the moment.
#[test]
fn without_the_advice_for_locked_memory_it_is_discarded_all_the_same() {
    child::lives("as it is", || under(&[], locked_memory_is_discarded));
    child::lives("unlocked first", || {
        under(&[advice(libc::MADV_DONTNEED_LOCKED, libc::EINVAL)], locked_memory_is_discarded);
    });
}

// ------------------------------------------------------------------------------ mremap

fn several_mappings_are_kept() {
    let memory = Memory::private(10);
    memory.fill(2);
    // One page, two pages, three pages: six in all, which no other move of the test has.
    mprotect(memory.pages(2..4), PROT_READ);
    mprotect(memory.pages(4..7), PROT_NONE);
    let space = memory.borrow();
    let region = region(1, 6);
    let before = Picture::take(&[memory.all()]);
    for _ in 0..3 {
        let tie = space.tie(page(), &region, .., Access::ReadWrite).unwrap();
        assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
        tie.untie().unwrap();
        before.assert_same(&Picture::take(&[memory.all()]), "untied");
    }
    mprotect(memory.all(), RW);
    assert_bytes(memory.start(), &pattern(2, memory.len()), "what was behind protections");
}

/// Before Linux 6.17 one mremap moves one mapping only.
#[test]
fn without_moves_of_several_mappings_each_is_moved() {
    child::lives("as it is", || under(&[], several_mappings_are_kept));
    child::lives("one by one", || {
        let when = When::Equal { arg: 1, mask: u32::MAX, value: 6 * page() as u32 };
        let deny = Deny { call: libc::SYS_mremap, when, errno: libc::EFAULT };
        under(&[deny], several_mappings_are_kept);
    });
}

// ------------------------------------------------------------------------------ MADV_GUARD_INSTALL

/// Before Linux 6.13: guard pages are made inaccessible in another way.
#[test]
fn without_guard_advice_guard_pages_fault() {
    const GUARD_INSTALL: i32 = 102;
    for (place, at) in [("before", -1), ("after", 3)] {
        child::dies(place, libc::SIGSEGV, || {
            if !filtered(&[advice(GUARD_INSTALL, libc::EINVAL)]) {
                // Without filters this is the test of guard pages as this kernel makes them.
                child::say("guard pages as they are");
            }
            let space = Space::reserve(3 * page()).unwrap();
            let _tie = space.tie(0, &region(1, 3), .., Access::ReadWrite).unwrap();
            let start = space.as_ptr().expose_provenance();
            child::load(start.wrapping_add_signed(at * page() as isize));
        });
    }
}

// ------------------------------------------------------------------------------ /proc

fn reserved_spaces_work_without_proc() {
    assert!(File::open("/proc/self/maps").is_err(), "/proc is still there");
    let memory = Memory::private(4);
    let borrowed = memory.try_borrow(memory.all()).expect_err("borrowed without asking");
    assert_eq!(borrowed.kind(), ErrorKind::Unsupported, "{borrowed}");
    assert!(borrowed.to_string().contains("/proc"), "{borrowed}");

    let space = Space::reserve(16 * page()).unwrap();
    let start = space.as_ptr().expose_provenance();
    let region = region(1, 4);
    let error = space.inspect(..).expect_err("inspected without asking");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

    // Pages of the space's own, under the ties.
    space.protect(.., Prot::ReadWrite).unwrap();
    common::write(start, &pattern(3, space.len()));
    for covered in [Covered::Keep, Covered::Discard] {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            let how = TieOptions::new(access).covered(covered);
            let mut tie = space.tie(4 * page(), &region, .., how).unwrap();
            assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
            assert_eq!(space.ties().len(), 1);
            let overlap = space.tie(7 * page(), &region, .., how).expect_err("an overlap");
            assert_eq!(overlap.kind(), ErrorKind::Overlap, "{overlap}");
            space.protect(5 * page()..6 * page(), Prot::None).unwrap();
            space.protect(5 * page()..6 * page(), Prot::Read).unwrap();
            assert_bytes(start + 5 * page(), &pattern(1, 2 * page())[page()..], "protected");
            tie.retie(&region, 0).unwrap();
            if access == Access::CopyOnWrite {
                poke(start + 4 * page(), 1);
                space.discard(4 * page()..5 * page()).unwrap();
                assert_eq!(peek(start + 4 * page()), pattern(1, 1)[0]);
            }
            tie.untie().unwrap();
            assert!(space.ties().is_empty());
            match covered {
                Covered::Keep => assert_bytes(start, &pattern(3, space.len()), "untied"),
                _ => assert_zero(start + 4 * page()..start + 8 * page(), "untied, discarded"),
            }
            space.protect(.., Prot::ReadWrite).unwrap();
            poke(start + 4 * page(), 1);
            common::write(start, &pattern(3, space.len()));
        }
    }
    // The other ends of a tie.
    let first = space.tie(0, &region, .., Access::ReadWrite).unwrap();
    let second = space.tie(8 * page(), &region, .., Access::ReadWrite).unwrap();
    drop(first);
    space.untie_all().unwrap();
    assert!(!second.is_live());
    assert_bytes(start, &pattern(3, space.len()), "untied");
    let third = space.tie(0, &region, .., Access::ReadWrite).unwrap();
    drop(space);
    assert!(!third.is_live());
}

#[test]
fn without_proc_reserved_spaces_work() {
    // Nothing can be opened, as in a sandbox.
    child::lives("nothing opens", || {
        let calls = [
            libc::SYS_openat,
            libc::SYS_openat2,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open,
        ];
        let rules = calls.map(|call| Deny { call, when: When::Always, errno: libc::ENOENT });
        under(&rules, reserved_spaces_work_without_proc);
    });
    // /proc is not mounted, as in a chroot.
    child::lives("not mounted", || {
        // SAFETY: changes the mounts that this process sees and no others'.
        let unmounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    ptr::null(),
                ) == 0
                && libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) == 0
        };
        if unmounted {
            reserved_spaces_work_without_proc();
        } else {
            let error = io::Error::last_os_error();
            common::skip(format!("unmounting /proc needs privileges ({error})"));
        }
    });
}
