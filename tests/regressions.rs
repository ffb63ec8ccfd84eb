//! Defects that were there once, one test each: its name is the promise, its comment what broke it.
//!
//! What changes a whole process (limits, filters of system calls, lost rights, a use of all mappings)
//! or may hang runs in a process of its own.

#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "maps, locks and filters behind the crate's back"
)]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/filler.rs"]
mod filler;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{
    Memory, assert_bytes, maps, mlock, mprotect, page, pages, pattern, peek, poke, region,
};
use filler::Filler;
use libc::{MAP_SHARED, PROT_READ, PROT_WRITE};
use pagetie::{
    Access, Covered, ErrorKind, HugePages, Prefault, Prot, Region, Space, TieOptions, TieSpec,
    Window,
};
use seccomp::{Deny, When};

// ------------------------------------------------------------------------------ what surrounds a test

/// From here on the calls of `rules` fail. `false`, visibly, where filters cannot be had.
fn filtered(rules: &[Deny]) -> bool {
    let denied = seccomp::deny(rules);
    if let Err(error) = &denied {
        child::say(&format!("skipped: regressions: needs seccomp filters ({error})"));
    }
    denied.is_ok()
}

fn every(call: libc::c_long, errno: i32) -> Deny {
    Deny { call, when: When::Always, errno }
}

/// From here on this process may lock nothing. `false`, visibly, where it still may.
fn may_lock_no_more() -> bool {
    const IPC_LOCK: u32 = 14;
    const VERSION_3: u32 = 0x2008_0522;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // The kernel's header (version, this thread) and its two words of effective, permitted, inherited.
    let (mut header, mut rights) = ([VERSION_3, 0], [[0u32; 3]; 2]);
    // SAFETY: the structures live through the calls and have the layout of this version.
    let lost = unsafe {
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) == 0
            && libc::syscall(libc::SYS_capget, header.as_mut_ptr(), rights.as_mut_ptr()) == 0
            && {
                rights[0][0] &= !(1 << IPC_LOCK);
                libc::syscall(libc::SYS_capset, header.as_mut_ptr(), rights.as_ptr()) == 0
            }
    };
    let lost = lost && mlock(Memory::private(1).all()).is_err();
    if !lost {
        child::say("skipped: regressions: this process keeps the right to lock memory");
    }
    lost
}

/// Locked memory, full. `None`, visibly, where it cannot be locked at all.
fn locked_memory() -> Option<(Memory, Vec<u8>)> {
    let memory = Memory::private(4);
    let bytes = memory.fill(7);
    if let Err(error) = mlock(memory.all()) {
        child::say(&format!("skipped: regressions: needs locked memory ({error})"));
        return None;
    }
    Some((memory, bytes))
}

/// A region of which no further writable mapping can be made.
fn sealed_region() -> Region {
    let region = region(1, 4);
    let fd = region.fd().expect("a region of the crate's own").as_raw_fd();
    // SAFETY: the descriptor is open.
    let rc = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE) };
    assert_eq!(rc, 0, "F_SEAL_FUTURE_WRITE: {}", io::Error::last_os_error());
    region
}

/// Every other page can only be read: as many mappings as pages.
fn stripes(range: Range<usize>) {
    for addr in range.step_by(2 * page()) {
        mprotect(addr..addr + page(), PROT_READ);
    }
}

// ------------------------------------------------------------------------------ the kernel's list

/// The list of mappings was that of the thread that had opened it, and could not be read after it.
#[test]
fn mappings_are_known_after_the_first_thread_to_ask_has_gone() {
    child::lives("gone", || {
        if !filtered(&[every(libc::SYS_ioctl, libc::ENOTTY)]) {
            return;
        }
        let (space, region, tie) = thread::spawn(|| {
            let space = Space::reserve(8 * page()).unwrap();
            let region = region(1, 1);
            let tie = space.tie(0, &region, .., Access::ReadOnly).unwrap();
            (space, region, tie)
        })
        .join()
        .unwrap();
        tie.untie().unwrap();
        space.tie(page(), &region, .., Access::ReadWrite).unwrap().untie().unwrap();
        assert!(!space.inspect(..).unwrap().is_empty());

        // The limit is told from a lack of memory by counting.
        let many = 200;
        let memory = Memory::private(many);
        let (space, region) = (memory.borrow(), common::region(2, many));
        stripes(memory.all());
        let Some(mut filler) = Filler::full() else { return };
        filler.free(many / 2);
        let kind = space.tie(0, &region, .., Access::ReadOnly).err().map(|error| error.kind());
        drop(filler);
        assert_eq!(kind, Some(ErrorKind::Limit));
    });
}

/// `EPERM` of a sandbox's filter was taken for an answer, and every call failed.
#[test]
fn a_filter_that_refuses_every_ioctl_refuses_no_tie() {
    child::lives("EPERM", || {
        if !filtered(&[every(libc::SYS_ioctl, libc::EPERM)]) {
            return;
        }
        let memory = Memory::private(8);
        let bytes = memory.fill(1);
        let (space, region) = (memory.borrow(), region(2, 8));
        let tie = space.tie(0, &region, .., Access::ReadOnly).unwrap();
        assert_bytes(memory.start(), &pattern(2, region.len()), "tied");
        tie.untie().unwrap();
        assert_bytes(memory.start(), &bytes, "untied");
    });
}

/// Notes of one protection were joined to one mapping, which the kernel did not have, nor would move.
#[test]
fn without_proc_a_tie_covers_several_mappings_of_one_protection() {
    child::lives("nothing opens", || {
        let calls = [
            libc::SYS_openat,
            libc::SYS_openat2,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open,
        ];
        if !filtered(&calls.map(|call| every(call, libc::ENOENT))) {
            return;
        }
        let (space, region) = (Space::reserve(3 * page()).unwrap(), region(1, 3));
        let start = space.as_ptr().expose_provenance();
        space.protect(.., Prot::ReadWrite).unwrap();
        let discard = TieOptions::new(Access::ReadOnly).covered(Covered::Discard);
        let tie = space.tie(page(), &region, ..page(), discard).unwrap();
        poke(start, 1);
        poke(start + 2 * page(), 3);
        tie.untie().unwrap();
        space.tie(0, &region, .., Access::ReadOnly).unwrap().untie().unwrap();
        assert_eq!([peek(start), peek(start + page()), peek(start + 2 * page())], [1, 0, 3]);
    });
}

// ------------------------------------------------------------------------------ locked memory

/// The lock was asked for when the bytes were to come back; refused, they never came.
#[test]
fn memory_that_could_not_be_locked_again_is_not_moved() {
    child::lives("a tie", || {
        let Some((memory, bytes)) = locked_memory() else { return };
        let (space, region) = (memory.borrow(), region(1, 4));
        if may_lock_no_more() {
            let error = space.tie(0, &region, .., Access::ReadWrite).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Os, "{error}");
            assert!(space.ties().is_empty());
            assert_bytes(memory.start(), &bytes, "refused");
            drop(space);
            assert_bytes(memory.start(), &bytes, "and left");
        }
    });
    child::lives("a tie that fails", || {
        let Some((memory, bytes)) = locked_memory() else { return };
        let (space, region) = (memory.borrow(), sealed_region());
        if may_lock_no_more() {
            space.tie(0, &region, .., Access::ReadWrite).unwrap_err();
            assert!(space.ties().is_empty());
            assert_bytes(memory.start(), &bytes, "refused");
        }
    });
}

/// The last to hold the bytes could not lock them again, and freed them.
#[test]
fn bytes_come_back_without_a_lock_when_nobody_is_left_to_ask_again() {
    child::lives("rights lost in between", || {
        let Some((memory, bytes)) = locked_memory() else { return };
        let (space, region) = (memory.borrow(), region(1, 4));
        let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
        if may_lock_no_more() {
            let error = tie.untie().unwrap_err();
            assert!(error.tie.is_live(), "{}", error.error);
            drop(error);
            space.untie_all().unwrap_err();
            drop(space);
            assert_bytes(memory.start(), &bytes, "given up");
        }
    });
}

/// Zeros were laid, could not be locked, and were laid again over what was written since.
#[test]
fn zeros_that_cannot_be_locked_are_laid_once() {
    child::lives("rights lost in between", || {
        let Some((memory, _)) = locked_memory() else { return };
        let (space, region) = (memory.borrow(), region(1, 4));
        let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);
        let tie = space.tie(0, &region, .., how).unwrap();
        if may_lock_no_more() {
            let error = tie.untie().unwrap_err();
            poke(memory.start(), 9);
            drop(error);
            drop(space);
            assert_eq!(peek(memory.start()), 9, "what was written after the tie");
        }
    });
}

/// The tie could not be undone, and its pages stayed registered with a userfaultfd nobody answers.
#[test]
fn a_concurrent_tie_that_fails_leaves_nobody_waiting() {
    child::lives("a reader", || {
        let Some((memory, bytes)) = locked_memory() else { return };
        let how = TieOptions::new(Access::ReadWrite).concurrent(true);
        let (other, region) = (Memory::private(4), sealed_region());
        match other.borrow().tie(0, &common::region(1, 4), .., how) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return child::say(&format!("skipped: regressions: {error}"));
            }
            made => drop(made.unwrap()),
        }
        let space = memory.borrow();
        if may_lock_no_more() {
            space.tie(0, &region, .., how).unwrap_err();
            assert_bytes(memory.start(), &bytes, "refused");
        }
    });
}

// ------------------------------------------------------------------------------ regions

/// Mapped, the object was as long as its mapping, and growing it took no pages.
#[test]
fn growing_a_region_of_huge_pages_takes_them() {
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let (size, left) = common::huge_pages();
    let pool = number("/proc/sys/vm/nr_hugepages").unwrap_or(0)
        + number("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or(0);
    if left == 0 || pool > 4096 {
        return common::skip(format!(
            "needs a small pool of huge pages, some free ({left}/{pool})"
        ));
    }
    let more = (pool + 1) * size;
    let huge = Region::builder().huge_pages(HugePages::Require(size)).max_len(more);
    let region = huge.build(size).unwrap();
    let error = region.grow(more).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
    assert_eq!(region.len(), size);
}

/// A size of 0 panicked, and one of 1 was taken for the default size.
#[test]
fn huge_page_sizes_of_0_and_1_are_told_apart() {
    let make = |size| Region::builder().huge_pages(HugePages::Require(size)).build(common::HUGE);
    assert_eq!(make(1).unwrap_err().kind(), ErrorKind::Unsupported);
    match make(0) {
        Ok(region) => assert_eq!(region.page_size(), common::huge_pages().0),
        Err(error) => common::skip(format!("needs free huge pages ({error})")),
    }
}

/// The length was set to each thread's in turn, so the last one cut what another had grown.
#[test]
fn a_file_that_several_threads_grow_is_never_cut() {
    for round in 0..150 {
        let file = common::memfd(&vec![1; page()]);
        let region = Region::builder().max_len(64 * page()).from_fd(&file).unwrap();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for share in 1..5 {
                let (region, start) = (&region, &start);
                scope.spawn(move || {
                    start.wait();
                    // A region does not shrink: a thread that comes too late with less is told so.
                    if let Err(error) = region.grow(8 * share * page()) {
                        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
                    }
                });
            }
        });
        assert_eq!(region.len(), 32 * page());
        assert_eq!(file.metadata().unwrap().len(), region.len() as u64, "round {round}");
    }
}

// ------------------------------------------------------------------------------ ties

/// The first end of such a tie laid zeros twice, to find out how they merge with their neighbours.
#[test]
fn the_first_discarding_tie_to_end_loses_no_write() {
    for round in 0..300 {
        // Each round needs a space that has not laid zeros yet, over memory they do not merge with.
        let memory = Memory::accounted(8);
        memory.fill(1);
        let (space, region) = (memory.borrow(), Region::new(page()).unwrap());
        let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);
        let tie = space.tie(3 * page(), &region, .., how).unwrap();
        let word = memory.pages(3..4).start;
        // SAFETY: aligned, mapped for the whole round, and touched by nobody in another way.
        let word = unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(word)) };
        let (counting, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        // The count goes on in the pages of zeros: it may start anew once, when the tie ends.
        let anew = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut last, mut anew) = (word.fetch_add(1, Ordering::Relaxed) + 1, 0);
                counting.store(true, Ordering::Release);
                while !stop.load(Ordering::Relaxed) {
                    let was = word.fetch_add(1, Ordering::Relaxed);
                    anew += usize::from(was != last);
                    last = was + 1;
                }
                anew
            });
            while !counting.load(Ordering::Acquire) {
                thread::yield_now();
            }
            tie.untie().unwrap();
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        assert!(anew <= 1, "round {round}: writes were lost");
    }
}

/// The kernel has such ties as one mapping, and where in it a tie begins was reckoned below zero.
#[test]
fn protect_goes_over_ties_that_continue_each_other() {
    let (space, region) = (Space::reserve(16 * page()).unwrap(), region(1, 4));
    let spec = |i| TieSpec {
        at: i * page(),
        region: &region,
        range: pages(i..i + 1),
        options: Access::ReadWrite.into(),
    };
    let ties = space.tie_all(&[0, 1, 2, 3].map(spec)).unwrap();
    let start = space.as_ptr().expose_provenance();
    space.protect(pages(0..3), Prot::Read).unwrap();
    assert_eq!(common::perms(start..start + 4 * page()), ["r--s", "r--s", "r--s", "rw-s"]);
    space.protect(.., Prot::ReadWrite).unwrap();
    assert_eq!(common::perms(start..start + 4 * page()), ["rw-s"; 4]);
    for tie in ties {
        tie.untie().unwrap();
    }
}

/// All of what had been covered was given the protections of now at once, in one mapping for each.
#[test]
fn a_tie_of_many_protections_ends_at_the_mapping_limit() {
    child::lives("at the limit", || {
        let many = 200;
        let memory = Memory::private(many);
        let bytes = memory.fill(1);
        let (space, region) = (memory.borrow(), region(2, many));
        let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
        for i in (0..many).step_by(2) {
            space.protect(pages(i..i + 1), Prot::Read).unwrap();
        }
        let Some(filler) = Filler::full() else { return };
        let ended = tie.untie();
        drop(filler);
        ended.unwrap();
        assert_bytes(memory.start(), &bytes, "untied");
        let perms = common::perms(memory.all());
        assert!(perms.chunks(2).all(|pair| pair == ["r--p", "rw-p"]), "{perms:?}");
    });
}

/// Optimised builds dropped the store that copies a page, since it changes no byte.
#[test]
fn pages_are_copied_by_touching_them() {
    const POPULATE_READ: u32 = libc::MADV_POPULATE_READ as u32;
    child::lives("no advice", || {
        let populate = |value| Deny {
            call: libc::SYS_madvise,
            when: When::Equal { arg: 2, mask: u32::MAX, value },
            errno: libc::EINVAL,
        };
        if !filtered(&[populate(POPULATE_READ), populate(POPULATE_READ + 1)]) {
            return;
        }
        let (space, region) = (Space::reserve(4 * page()).unwrap(), region(1, 4));
        let how = TieOptions::new(Access::CopyOnWrite).prefault(Prefault::Copy);
        let tie = space.tie(0, &region, .., how).unwrap();
        region.write_at(0, &pattern(2, region.len())).unwrap();
        assert_bytes(tie.as_ptr().addr(), &pattern(1, region.len()), "copied");
    });
}

/// What the ties of a leaked space had covered stayed mapped for as long as a handle lived.
#[test]
fn a_leaked_space_frees_what_it_covered() {
    use std::os::unix::fs::MetadataExt as _;
    let memory = Memory::file(&pattern(1, 4 * page()));
    let inode = memory.file_behind().metadata().unwrap().ino();
    let mapped = || maps().iter().filter(|line| line.inode == inode).count();
    let (space, region) = (memory.borrow(), region(2, 4));
    let tie = space.tie(0, &region, .., Access::ReadOnly).unwrap();
    assert_eq!(mapped(), 1, "kept aside");
    space.leak();
    assert_eq!(mapped(), 0, "nobody can bring it back");
    assert!(!tie.is_live());
    assert_bytes(memory.start(), &pattern(2, region.len()), "the alias stays");
}

/// Such a map cannot be made writable as the tie was, and the tie never ended.
#[test]
fn a_tie_made_writable_over_a_read_only_file_ends() {
    let mut named = tempfile::NamedTempFile::new().unwrap();
    named.write_all(&pattern(1, 4 * page())).unwrap();
    let file = File::open(named.path()).unwrap();
    // The file takes the place of memory that the test owns.
    let memory = Memory::private(4);
    common::map(memory.start(), memory.len(), PROT_READ, MAP_SHARED, Some(&file));
    let (space, region) = (memory.borrow(), region(2, 4));
    let tie = space.tie(0, &region, .., Access::ReadOnly).unwrap();
    mprotect(memory.pages(0..1), PROT_READ | PROT_WRITE);
    tie.untie().unwrap();
    assert_bytes(memory.start(), &pattern(1, memory.len()), "untied");
    assert_eq!(common::perms(memory.all()), ["r--s"; 4]);
}

// ------------------------------------------------------------------------------ discard

/// Refused for whatever lay at the lower address: the reason changed with the place of the tie.
#[test]
fn a_discard_is_refused_for_the_tie_before_the_memory_around_it() {
    let memory = Memory::shared(4);
    let (space, region) = (memory.borrow(), region(1, 1));
    for at in [0, 2] {
        let tie = space.tie(at * page(), &region, .., Access::ReadOnly).unwrap();
        let error = space.discard(..3 * page()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "a tie at page {at}: {error}");
        let items = [pages(1..2), pages(at..at + 1)];
        let error = space.discard_many(&items).unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::ReadOnly, Some(1)), "{error}");
        tie.untie().unwrap();
    }
}

/// Where items overlapped, the part that was left of one ended on a huge page, which the item did not.
#[test]
fn an_item_that_begins_inside_a_huge_page_is_refused_beside_one_that_does_not() {
    let huge = common::HUGE;
    let region = match Region::builder().huge_pages(HugePages::Require(huge)).build(2 * huge) {
        Ok(region) => region,
        Err(error) => return common::skip(format!("ties of huge pages: {error}")),
    };
    region.write_at(huge, b"kept").unwrap();
    let space = Space::reserve(2 * huge).unwrap();
    let _tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
    let error = space.discard_many(&[page()..2 * huge, 0..huge]).unwrap_err();
    assert_eq!((error.kind(), error.index()), (ErrorKind::Misaligned, Some(0)), "{error}");
    assert_eq!(&common::region_bytes(&region)[huge..huge + 4], b"kept");
}

// ------------------------------------------------------------------------------ parked aliases

/// The alias came back with the protection of its access, and a guard page inside it was open.
#[test]
fn a_tie_that_cannot_be_parked_keeps_its_protections() {
    let (space, region) = (Space::reserve(8 * page()).unwrap(), region(1, 4));
    let tie = space.tie(0, &region, .., Access::CopyOnWrite).unwrap();
    let addr = tie.as_ptr().expose_provenance();
    let all = addr..addr + tie.len();
    // Written apart, the first page and the third never become one mapping again.
    space.protect(pages(1..2), Prot::None).unwrap();
    poke(addr, 1);
    poke(addr + 2 * page(), 3);
    space.protect(pages(3..4), Prot::Read).unwrap();
    let before = common::perms(all.clone());
    let refused = match tie.park() {
        // A kernel that joins them all the same has nothing to refuse.
        Ok(_) => return common::skip("parking private pages apart: the kernel joins them"),
        Err(refused) => refused,
    };
    assert_eq!(refused.error.kind(), ErrorKind::Unsupported, "{}", refused.error);
    assert_eq!(common::perms(all), before);
    assert_eq!([peek(addr), peek(addr + 2 * page())], [1, 3], "private pages");
    refused.tie.untie().unwrap();
}

/// The same where what was covered cannot come back: its lock cannot be had again.
#[test]
fn a_tie_that_stays_over_locked_memory_keeps_its_protections() {
    child::lives("a parked tie", || {
        let Some((memory, bytes)) = locked_memory() else { return };
        let (space, region) = (memory.borrow(), region(1, 4));
        let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
        space.protect(pages(1..2), Prot::None).unwrap();
        space.protect(pages(2..3), Prot::Read).unwrap();
        if !may_lock_no_more() {
            return;
        }
        let refused = tie.park().unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::Os, "{}", refused.error);
        assert!(refused.tie.is_live());
        assert_eq!(common::perms(memory.all()), ["rw-s", "---s", "r--s", "rw-s"]);
        assert_bytes(memory.start(), &pattern(1, page()), "the alias");
        drop(refused);
        drop(space);
        mprotect(memory.all(), PROT_READ);
        assert_bytes(memory.start(), &bytes, "what was covered");
    });
}

/// The mappings were counted after the parts that had moved were back, and were not too many by then.
#[test]
fn a_tie_that_is_not_parked_for_want_of_mappings_says_so() {
    child::lives("a tie of parts", || {
        let (space, region) = (Space::reserve(8 * page()).unwrap(), region(1, 8));
        let mut tie = space.tie(0, &region, .., Access::CopyOnWrite).unwrap();
        for n in [1, 3, 5] {
            space.protect(pages(n..n + 1), Prot::Read).unwrap();
        }
        let Some(mut filler) = Filler::full() else { return };
        let mut kinds = Vec::with_capacity(64);
        // One mapping more each time, until they are enough.
        for _ in 0..64 {
            match tie.park() {
                Ok(_) => break,
                Err(refused) => {
                    kinds.push(refused.error.kind());
                    tie = refused.tie;
                }
            }
            filler.free(1);
        }
        drop(filler);
        assert!((4..64).contains(&kinds.len()), "{kinds:?}");
        assert!(kinds.iter().all(|&kind| kind == ErrorKind::Limit), "{kinds:?}");
    });
}

// ------------------------------------------------------------------------------ windows

/// Private pages were set aside before the new ones came, and the region's bytes showed in between.
#[test]
fn a_reader_of_a_copy_on_write_window_sees_old_or_new() {
    const OLD: u8 = 9;
    let half = common::HUGE;
    let region = Region::new(2 * half).unwrap();
    for at in (0..2 * half).step_by(page()) {
        region.write_at(at, &[if at < half { 1 } else { 2 }]).unwrap();
    }
    let space = Space::reserve(half).unwrap();
    let start = space.as_ptr().expose_provenance();
    let (reading, done) = (Barrier::new(2), AtomicBool::new(false));
    for _ in 0..60 {
        let mut window = Window::new(&space, 0, half, &region, Access::CopyOnWrite).unwrap();
        (start..start + half).step_by(page()).for_each(|addr| poke(addr, OLD));
        window.prepare(half..2 * half).unwrap();
        done.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                reading.wait();
                while !done.load(Ordering::Relaxed) {
                    for addr in (start..start + half).step_by(page()).take(64) {
                        let seen = peek(addr);
                        assert!(seen == OLD || seen == 2, "{seen} is neither old nor new");
                    }
                }
            });
            reading.wait();
            // Time for a few rounds of the reader.
            thread::sleep(std::time::Duration::from_millis(2));
            window.show(half..2 * half).unwrap();
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}
