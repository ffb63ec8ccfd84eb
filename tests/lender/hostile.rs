//! What engines, limits, forks and other threads do to lent page tables behind pagetie's back.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetie::{Access, Region, Space, TieSpec, Window};

use crate::common::*;
use crate::{LEN, assert_whole, child, populated, start, written};

/// Linux 6.13; of files since 6.15.
const MADV_GUARD_INSTALL: i32 = 102;

/// As long as four pieces: one that is lent has neighbours.
fn four(seed: u64) -> (Region, Vec<u8>) {
    written(seed, 4 * LEN)
}

fn limit_addresses(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit of this process, read from a live struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

fn lock_all(flags: i32) {
    // SAFETY: locks and unlocks memory, and changes no byte.
    let rc = unsafe { if flags == 0 { libc::munlockall() } else { libc::mlockall(flags) } };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// No address of a range is unmapped.
#[track_caller]
fn assert_mapped(range: Range<usize>) {
    assert!(!perms(range).iter().any(|perms| perms == "hole"), "a hole");
}

#[test]
fn guard_pages_stay_where_they_were_put() {
    child::lives("guards", || {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let (region, bytes) = four(1);
            let (one, other) =
                (Space::reserve(LEN).expect("reserve"), Space::reserve(LEN).expect("reserve"));
            let tie = one.tie(0, &region, ..LEN, populated(access)).expect("tie");
            let guard = start(&tie) + 5 * page()..start(&tie) + 6 * page();
            if let Err(error) = madvise(guard, MADV_GUARD_INSTALL) {
                return child::say(&format!("skipped: lender: no guard pages in files: {error}"));
            }
            tie.untie().expect("untie");
            assert_eq!(region_bytes(&region), bytes, "the host's view");
            let window = Window::new(&other, 0, LEN, &region, access).expect("window");
            assert_bytes(other.as_ptr().addr(), &bytes[..LEN], "another space");
            drop(window);
            // And the host's own is not for guests.
            let view = region.as_ptr().addr();
            madvise(view + page()..view + 2 * page(), MADV_GUARD_INSTALL).expect("madvise");
            let window = Window::new(&other, 0, LEN, &region, access).expect("window");
            assert_bytes(other.as_ptr().addr(), &bytes[..LEN], "a guest");
            drop(window);
        }
    });
}

#[test]
fn a_bound_on_addresses_leaves_no_hole() {
    child::lives("addresses", || {
        let (region, bytes) = four(1);
        let view = region.as_ptr().addr();
        let space = Space::reserve(2 * LEN).expect("reserve");
        let home = space.as_ptr().addr();
        let how = populated(Access::ReadWrite);
        let mut window = Window::new(&space, LEN, LEN, &region, how).expect("window");
        let lent = space.tie(0, &region, ..LEN, how).expect("tie");
        limit_addresses(1 << 20);
        let (shown, ended) = (window.show(2 * LEN..2 * LEN + 1), lent.untie());
        limit_addresses(libc::RLIM_INFINITY);
        ended.expect("untie");
        if let Ok(at) = shown {
            assert_eq!(peek(home + at), bytes[2 * LEN]);
        }
        // Made without being lent to.
        let spec = TieSpec { at: 0, region: &region, range: 0..LEN, options: how };
        let mut tie = space.tie_all(&[spec]).expect("tie").pop().expect("one tie");
        limit_addresses(1 << 20);
        let retied = tie.retie(&region, LEN);
        limit_addresses(libc::RLIM_INFINITY);
        assert_mapped(view..view + 4 * LEN);
        assert_mapped(home..home + 2 * LEN);
        let shown = if retied.is_ok() { LEN } else { 0 };
        assert_bytes(home, &bytes[shown..shown + LEN], "old or new");
        assert_eq!(region_bytes(&region), bytes);
    });
}

#[test]
fn a_bound_on_addresses_is_the_hosts_own_to_use_up() {
    child::lives("budget", || {
        let region = Region::new(8 << 30).expect("a region");
        let space = Space::reserve(LEN).expect("reserve");
        let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
        let now = pages.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number");
        limit_addresses((now * page() + region.len() / 2) as u64);
        let window = Window::new(&space, 0, LEN, &region, Access::ReadOnly);
        map(0, region.len() / 4, libc::PROT_NONE, PRIVATE, None);
        limit_addresses(libc::RLIM_INFINITY);
        drop(window.expect("window"));
    });
}

#[test]
fn soiled_page_tables_are_never_seen_on_their_way_back() {
    let (region, bytes) = four(1);
    let (first, stop) = (bytes[5 * page()], &AtomicBool::new(false));
    let soil = first ^ 0xff;
    let how = populated(Access::ReadOnly);
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            let space = Space::reserve(LEN).expect("reserve");
            let at = space.as_ptr().addr();
            while !stop.load(Ordering::Relaxed) {
                let tie = space.tie(0, &region, ..LEN, how).expect("tie");
                mprotect(at..at + LEN, libc::PROT_READ | libc::PROT_WRITE);
                poke(at + 5 * page(), soil);
                mprotect(at..at + LEN, libc::PROT_READ);
                tie.untie().expect("untie");
            }
        });
        let other = scope.spawn(|| {
            let space = Space::reserve(LEN).expect("reserve");
            let mut seen = false;
            while !stop.load(Ordering::Relaxed) && !seen {
                let window = Window::new(&space, 0, LEN, &region, Access::ReadOnly).expect("new");
                seen = peek(space.as_ptr().addr() + 5 * page()) != first;
                window.untie().expect("untie");
            }
            seen
        });
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && !other.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        other.join().expect("the other space")
    });
    assert!(!seen, "another space saw a private page");
    assert_whole(&region);
}

#[test]
fn an_engine_may_make_a_large_read_only_window_writable() {
    let guess = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").expect("the sysctl");
    if guess.trim() != "0" {
        return skip("vm.overcommit_memory is not 0");
    }
    // SAFETY: all zeros are a valid sysinfo, and it is a valid place for the answer.
    let memory = unsafe {
        let mut info = std::mem::zeroed::<libc::sysinfo>();
        assert_eq!(libc::sysinfo(&mut info), 0);
        (info.totalram + info.totalswap) as usize * info.mem_unit as usize
    };
    let len = (memory + (1 << 30)).next_multiple_of(1 << 30);
    let region = Region::new(len).expect("a region");
    let space = Space::reserve(len).expect("reserve");
    let window = Window::new(&space, 0, len, &region, Access::ReadOnly).expect("window");
    let start = space.as_ptr().addr();
    mprotect(start..start + len, libc::PROT_READ | libc::PROT_WRITE);
    drop(window);
}

#[test]
fn a_fork_while_the_second_view_is_made_hangs_nobody() {
    child::lives("fork", || {
        for round in 0..8 {
            let region = Region::new(512 << 20).expect("a region");
            let space = Space::reserve(LEN).expect("reserve");
            thread::scope(|scope| {
                // Mapping takes long: all of it is populated.
                lock_all(libc::MCL_FUTURE);
                scope.spawn(|| drop(Window::new(&space, 0, LEN, &region, Access::ReadOnly)));
                thread::sleep(Duration::from_millis(2 + round * 5));
                // SAFETY: the child makes a window of its own, and leaves by _exit.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: ends the child if it hangs.
                    unsafe { libc::alarm(20) };
                    lock_all(0);
                    let space = Space::reserve(LEN).expect("reserve");
                    let window = Window::new(&space, 0, LEN, &region, Access::ReadOnly);
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(i32::from(window.is_err())) };
                }
                lock_all(0);
                let mut status = 0;
                // SAFETY: the child of above, and a place for its status.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0, "round {round} (14: it hung)");
            });
        }
    });
}

#[test]
fn memory_that_is_to_be_locked_is_not_mapped_twice() {
    child::lives("locked", || {
        let region = Region::new(512 << 20).expect("a region");
        let space = Space::reserve(LEN).expect("reserve");
        lock_all(libc::MCL_FUTURE);
        let before = locked();
        let window = Window::new(&space, 0, LEN, &region, Access::ReadOnly).expect("window");
        let after = locked();
        lock_all(0);
        drop(window);
        assert!(after - before <= 2 * LEN, "{} bytes locked", after - before);
    });
}

#[test]
fn what_was_sealed_is_not_lent_for_writing() {
    use std::os::fd::AsRawFd as _;
    let file = memfd(&pattern(1, 2 * LEN));
    let region = Region::from_fd(&file).expect("a region");
    let space = Space::reserve(LEN).expect("reserve");
    // SAFETY: seals a file of the test's own.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
    let tie = |len| space.tie(0, &region, ..len, populated(Access::ReadWrite));
    let (short, long) = (tie(page()).expect_err("sealed"), tie(LEN).expect_err("sealed"));
    assert_eq!(short.kind(), long.kind());
}
