//! A forked child's ties and spaces are dead objects, and the parent's do not notice the child.
//!
//! Every test runs in a process of its own, which forks. Each forked child sets an alarm: one that
//! waits for a lock that a thread of its parent held dies of SIGALRM instead of hanging.

#![allow(unsafe_code, reason = "forks, and drops copies of what the parent keeps")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{
    HUGE, Memory, PRIVATE, Picture, assert_bytes, map, maps_in, page, pattern, poke, region, unmap,
};
use libc::{PROT_READ, PROT_WRITE};
use pagetie::{
    Access, Covered, ErrorKind, Mapping, Prot, Region, Space, TieOptions, TieSpec, Window,
};

/// Seconds until a forked child that hangs is killed by its own alarm.
const ALARM: u32 = 60;

/// Forks, and runs `body` in the child, which then ends.
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs `body` and `_exit`s: it returns into nothing of its parent's. What it
    // calls from the C library (malloc) is put in order for the child by fork itself.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    // SAFETY: sets a timer of this process.
    unsafe { libc::alarm(ALARM) };
    let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
    // SAFETY: ends the process; nothing of the parent's is flushed or dropped on the way.
    unsafe { libc::_exit(failed.into()) }
}

/// Tells the other threads to stop, also when this one panics: a scope waits for all.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for a forked child, which must have run to its end.
#[track_caller]
fn wait(pid: libc::pid_t, what: &str) {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    let got = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(got, pid, "waitpid: {}", std::io::Error::last_os_error());
    let hung = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM;
    assert!(!hung, "{what}: the child hung");
    assert_eq!(status, 0, "{what}: the child did not end well (wait status {status:#x})");
}

#[track_caller]
fn in_child(what: &str, body: impl FnOnce()) {
    wait(fork(body), what);
}

/// A copy of something that the parent keeps, for a forked child to drop: there the parent's
/// copy is never dropped, since the child ends with `_exit`.
fn copy_in_child<T>(kept: &T) -> T {
    // SAFETY: called in forked children only, once for each value, which is not used afterwards.
    unsafe { ptr::read(kept) }
}

#[track_caller]
fn assert_ended<T>(result: pagetie::Result<T>, what: &str) {
    match result {
        Ok(_) => panic!("{what} did something in a forked child"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Ended, "{what}: {error}"),
    }
}

/// What the kernel has in a space, in a form that compares.
fn inspected(space: &Space) -> Vec<String> {
    let mappings: Vec<Mapping> = space.inspect(..).expect("inspect");
    mappings.iter().map(|mapping| format!("{mapping:?}")).collect()
}

/// While one thread of the parent ties and another makes and drops regions and spaces, children
/// are forked at any moment, drop copies of everything, and must neither hang nor crash.
#[test]
fn drops_in_a_forked_child_never_hang() {
    child::lives("200 forks", || {
        let region = region(1, 4);
        let own = Space::reserve(16 * page()).unwrap();
        let mut kept = own.tie(0, &region, .., Access::ReadWrite).unwrap();
        let busy = Arc::new(Space::reserve(64 * page()).unwrap());
        let held = busy.tie(60 * page(), &region, .., Access::CopyOnWrite).unwrap();
        let stop = AtomicBool::new(false);
        let (ties, spaces) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let stopping = Stop(&stop);
            scope.spawn(|| {
                let _stopping = Stop(&stop);
                let plain = TieOptions::new(Access::ReadWrite);
                let ways = [plain, plain.covered(Covered::Discard), plain.concurrent(true)];
                for (i, how) in ways.into_iter().cycle().enumerate() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let at = i % 13 * 4 * page();
                    let mut tie = busy.tie(at, &region, .., how).unwrap();
                    let other = busy.tie(at + 4 * page(), &region, ..page(), how).unwrap();
                    busy.protect(at..at + page(), Prot::Read).unwrap();
                    tie.retie(&region, 0).unwrap();
                    drop(other);
                    tie.untie().unwrap();
                    ties.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                let _stopping = Stop(&stop);
                let memory = Memory::private(4);
                while !stop.load(Ordering::Relaxed) {
                    let region = Region::new(2 * page()).unwrap();
                    let space = Space::reserve(4 * page()).unwrap();
                    let borrowed = memory.borrow();
                    let tie = borrowed.tie(0, &region, .., Access::ReadWrite).unwrap();
                    drop((space, borrowed, tie));
                    spaces.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Both threads are at work before the first fork, and at work between the forks.
            let busy_since = |counter: &AtomicUsize, before: usize| {
                while counter.load(Ordering::Relaxed) == before {
                    assert!(!stop.load(Ordering::Relaxed), "a thread gave up");
                    thread::yield_now();
                }
            };
            for i in 0..200 {
                busy_since(&ties, ties.load(Ordering::Relaxed));
                busy_since(&spaces, spaces.load(Ordering::Relaxed));
                in_child(&format!("fork {i}"), || {
                    assert!(!kept.is_live() && !held.is_live());
                    assert_ended(busy.tie(0, &region, .., Access::ReadWrite), "tie");
                    // Handles go in any order.
                    match i % 4 {
                        0 => drop((copy_in_child(&kept), copy_in_child(&own))),
                        1 => drop((copy_in_child(&own), copy_in_child(&kept))),
                        2 => copy_in_child(&kept).leak(),
                        _ => copy_in_child(&own).leak(),
                    }
                    let (held, busy) = (copy_in_child(&held), copy_in_child(&*busy));
                    if i % 2 == 0 {
                        drop((held, busy))
                    } else {
                        drop((busy, held))
                    }
                    // The child's own work does not wait for the parent's threads either.
                    let space = Space::reserve(4 * page()).unwrap();
                    let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
                    assert_bytes(tie.as_ptr().addr(), &pattern(1, 4 * page()), "tied in the child");
                    drop(copy_in_child(&region));
                    tie.untie().unwrap();
                });
                assert!(kept.is_live());
                assert_bytes(kept.as_ptr().addr(), &pattern(1, kept.len()), "the parent's tie");
                kept.retie(&region, 0).unwrap();
            }
            drop(stopping);
        });
        kept.untie().unwrap();
        held.untie().unwrap();
    });
}

/// Every verb on what came from the parent says `Ended`, before it takes a lock.
#[test]
fn spaces_and_ties_of_the_parent_have_ended_in_the_child() {
    child::lives("verbs", || {
        let memory = Memory::private(16);
        let covered = memory.fill(2);
        let region = region(1, 4);
        for space in [memory.borrow(), Space::reserve(16 * page()).unwrap()] {
            let mut tie = space.tie(4 * page(), &region, .., Access::ReadWrite).unwrap();
            let before = (inspected(&space), space.ties().len());
            let picture = Picture::take(&[]);
            in_child("verbs", || {
                assert!(!tie.is_live());
                let spec = TieSpec {
                    at: 0,
                    region: &region,
                    range: 0..page(),
                    options: Access::ReadWrite.into(),
                };
                assert_ended(space.tie(0, &region, ..page(), Access::ReadWrite), "tie");
                assert_ended(space.tie_all(&[spec]), "tie_all");
                assert_ended(space.protect(0..page(), Prot::Read), "protect");
                assert_ended(space.protect(4 * page()..5 * page(), Prot::Read), "protect, tied");
                assert_ended(space.discard(0..page()), "discard");
                assert_ended(space.discard(4 * page()..5 * page()), "discard, tied");
                assert_ended(space.inspect(..), "inspect");
                assert_ended(space.untie_all(), "untie_all");
                // SAFETY: nothing is borrowed: the call is refused.
                let grown = unsafe { space.grown_to(space.as_ptr(), space.len()) };
                assert_ended(grown, "grown_to");
                assert_ended(tie.retie(&region, 0), "retie");
                let refused = copy_in_child(&tie).untie().expect_err("untie in a forked child");
                assert_eq!(refused.error.kind(), ErrorKind::Ended, "{refused}");
                drop(refused);
                // None of that touched the child's copy of the memory.
                assert_bytes(space.as_ptr().addr() + 4 * page(), &pattern(1, 4 * page()), "alias");
                drop(copy_in_child(&space));
                assert_bytes(space.as_ptr().addr() + 4 * page(), &pattern(1, 4 * page()), "alias");
            });
            assert_eq!((inspected(&space), space.ties().len()), before);
            picture.assert_same(&Picture::take(&[]), "after the child");
            assert!(tie.is_live() && space.ties()[0].held);
            tie.retie(&region, 0).unwrap();
            tie.untie().unwrap();
            space.untie_all().unwrap();
        }
        assert_bytes(memory.start(), &covered, "covered pages, untied");
    });
}

/// A region is shared with the child as any shared map is, and new things are made there.
#[test]
fn regions_stay_usable_in_the_child_and_its_children() {
    child::lives("regions", || {
        let region = region(1, 4);
        let space = Space::reserve(8 * page()).unwrap();
        let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
        in_child("regions", || {
            let mut byte = [0];
            region.read_at(1, &mut byte).unwrap();
            assert_eq!(byte[0], pattern(1, 2)[1]);
            region.write_at(0, b"child").unwrap();

            let own = Space::reserve(8 * page()).unwrap();
            let own_tie = own.tie(page(), &region, ..2 * page(), Access::ReadWrite).unwrap();
            assert_bytes(own_tie.as_ptr().addr() + 8, &pattern(1, page())[8..], "the child's tie");
            let new = common::region(5, 2);
            let _new_tie = own.tie(4 * page(), &new, .., Access::CopyOnWrite).unwrap();
            own.protect(4 * page()..5 * page(), Prot::Read).unwrap();
            assert_eq!(own.ties().len(), 2);

            in_child("regions of the grandchild", || {
                assert!(!tie.is_live() && !own_tie.is_live());
                assert_ended(own.inspect(..), "inspect, of the child");
                assert_ended(space.inspect(..), "inspect, of the parent");
                region.write_at(page(), b"grandchild").unwrap();
                new.write_at(0, b"grandchild").unwrap();
                let space = Space::reserve(4 * page()).unwrap();
                let tie = space.tie(0, &new, .., Access::ReadWrite).unwrap();
                assert_bytes(tie.as_ptr().addr() + 16, &pattern(5, page())[16..], "grandchild");
                drop((copy_in_child(&own_tie), copy_in_child(&own), copy_in_child(&new)));
                tie.untie().unwrap();
            });

            assert!(own_tie.is_live());
            let mut bytes = [0; 10];
            new.read_at(0, &mut bytes).unwrap();
            assert_eq!(&bytes, b"grandchild");
            own_tie.untie().unwrap();
            own.untie_all().unwrap();
        });
        let mut bytes = [0; 10];
        region.read_at(0, &mut bytes[..5]).unwrap();
        assert_eq!(&bytes[..5], b"child");
        region.read_at(page(), &mut bytes).unwrap();
        assert_eq!(&bytes, b"grandchild");
        // And through the parent's tie, which nobody touched.
        assert!(tie.is_live());
        assert_eq!(common::peek(tie.as_ptr().addr() + page()), b'g');
        tie.untie().unwrap();
    });
}

/// The child owns its own addresses: what the parent's spaces cover there may be borrowed, and
/// the kernel is asked about the child, not about its parent.
#[test]
fn the_child_borrows_what_a_space_of_the_parent_covers() {
    child::lives("borrow", || {
        let memory = Memory::private(16);
        let covered = memory.fill(2);
        let region = region(1, 4);
        let space = memory.borrow();
        let tie = space.tie(4 * page(), &region, .., Access::ReadWrite).unwrap();
        let reserved = Space::reserve(4 * page()).unwrap();
        let parents = Memory::private(4);
        let before = inspected(&space);

        // Refused in the parent, as a check that the child is let off something.
        let overlap = memory.try_borrow(memory.all()).expect_err("two spaces over one memory");
        assert_eq!(overlap.kind(), ErrorKind::Overlap);

        in_child("borrow", || {
            let borrowed = memory.borrow();
            // Under the parent's alias, over it, and beside it.
            let over = borrowed.tie(3 * page(), &region, ..3 * page(), Access::CopyOnWrite);
            let over = over.unwrap();
            assert_bytes(over.as_ptr().addr(), &pattern(1, 3 * page()), "over the parent's alias");
            over.untie().unwrap();
            assert_bytes(memory.pages(3..4).start, &covered[3 * page()..4 * page()], "beside");
            assert_bytes(memory.pages(4..8).start, &pattern(1, 4 * page()), "the parent's alias");
            let beside = borrowed.tie(10 * page(), &region, .., Access::ReadWrite).unwrap();

            // SAFETY: the parent's reservation is the child's to use: plain memory of its own.
            let again = unsafe { Space::borrow(reserved.as_ptr(), reserved.len()) }.unwrap();
            let tie = again.tie(0, &region, .., Access::ReadWrite).unwrap();
            assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "over a reservation");
            tie.untie().unwrap();

            // What only the child mapped, and what only the parent still has.
            let new = Memory::private(4);
            new.fill(3);
            let new_space = new.borrow();
            let new_tie = new_space.tie(0, &region, .., Access::ReadOnly).unwrap();
            assert_eq!(new_space.inspect(..page()).unwrap()[0].prot, Prot::Read);
            unmap(parents.all());
            let gone = parents.try_borrow(parents.all()).expect_err("a hole, in the child");
            assert_eq!(gone.kind(), ErrorKind::NotMapped, "{gone}");

            in_child("borrow, grandchild", || {
                let borrowed = new.borrow();
                let tie = borrowed.tie(0, &region, .., Access::ReadWrite).unwrap();
                assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "grandchild");
                tie.untie().unwrap();
                assert!(!new_tie.is_live() && !beside.is_live());
            });
            new_tie.untie().unwrap();
            beside.untie().unwrap();
            assert_bytes(memory.pages(10..14).start, &covered[10 * page()..14 * page()], "untied");
        });

        let borrowed = parents.borrow();
        drop(borrowed);
        assert_eq!(inspected(&space), before);
        assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "the parent's tie");
        tie.untie().unwrap();
        assert_bytes(memory.start(), &covered, "covered pages, untied");
    });
}

/// A thread that forks need not be the thread that first used the crate, nor still be there.
#[test]
fn any_thread_may_fork() {
    child::lives("threads", || {
        let memory = Memory::private(8);
        let covered = memory.fill(2);
        let region = region(1, 4);
        let space = thread::scope(|scope| scope.spawn(|| memory.borrow()).join().unwrap());
        let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                in_child("from a thread", || {
                    assert!(!tie.is_live());
                    let borrowed = memory.borrow();
                    let tie = borrowed.tie(4 * page(), &region, .., Access::ReadWrite).unwrap();
                    assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "in the child");
                    tie.untie().unwrap();
                });
            });
        });
        tie.untie().unwrap();
        assert_bytes(memory.start(), &covered, "covered pages, untied");
    });
}

/// Neither the view nor a tie of a hidden region reaches the child, and what the child maps at
/// those addresses is its own.
#[test]
fn a_hidden_region_is_not_in_the_child() {
    child::lives("hidden", || {
        let region = Region::builder().hide_from_fork(true).build(4 * page()).unwrap();
        region.write_at(0, &pattern(1, 4 * page())).unwrap();
        let other = Region::builder().hide_from_fork(true).build(4 * page()).unwrap();
        other.write_at(0, &pattern(7, 4 * page())).unwrap();
        let memory = Memory::private(24);
        let covered = memory.fill(2);
        let borrowed = memory.borrow();
        let reserved = Space::reserve(24 * page()).unwrap();
        let accesses = [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite];
        let mut ties = Vec::new();
        for (i, access) in accesses.into_iter().enumerate() {
            for space in [&borrowed, &reserved] {
                let how = TieOptions::new(access);
                let kept = space.tie(8 * i * page(), &region, .., how).unwrap();
                let how = how.covered(Covered::Discard);
                let mut replaced = space.tie((8 * i + 4) * page(), &region, .., how).unwrap();
                // A tie that was replaced is as hidden as one that was not.
                replaced.retie(&other, 0).unwrap();
                ties.extend([kept, replaced]);
            }
        }
        let before = (inspected(&borrowed), inspected(&reserved));
        in_child("hidden", || {
            let view = region.as_ptr().addr();
            let mut places: Vec<usize> = ties.iter().map(|tie| tie.as_ptr().addr()).collect();
            places.extend([view, other.as_ptr().addr()]);
            let mut bytes = [0; 8];
            assert_ended(region.read_at(0, &mut bytes), "read_at");
            assert_ended(region.write_at(0, &bytes), "write_at");
            assert_ended(region.atomic_u8(..), "atomic_u8");
            for &place in &places {
                let lines = maps_in(place..place + 4 * page());
                assert!(lines.is_empty(), "the child has {lines:?}");
                map(place, 4 * page(), PROT_READ | PROT_WRITE, PRIVATE, None);
                common::write(place, &pattern(9, 4 * page()));
            }
            // A new space cannot be given pages that are not there.
            let space = Space::reserve(4 * page()).unwrap();
            assert_ended(space.tie(0, &region, .., Access::ReadWrite), "tie of a hidden region");

            ties.iter().for_each(|tie| assert!(!tie.is_live()));
            ties.iter().for_each(|tie| drop(copy_in_child(tie)));
            drop((copy_in_child(&borrowed), copy_in_child(&reserved)));
            drop((copy_in_child(&region), copy_in_child(&other)));
            for &place in &places {
                assert_bytes(place, &pattern(9, 4 * page()), "what the child mapped");
            }
        });
        assert_eq!((inspected(&borrowed), inspected(&reserved)), before);
        let mut now = vec![0; region.len()];
        region.read_at(0, &mut now).unwrap();
        assert_eq!(now, pattern(1, region.len()));
        for tie in ties {
            tie.untie().unwrap();
        }
        for i in 0..3 {
            // Kept pages came back, thrown away ones are zeros.
            let (kept, zeros) = (8 * i..8 * i + 4, 8 * i + 4..8 * i + 8);
            let bytes = &covered[common::pages(kept.clone())];
            assert_bytes(memory.pages(kept).start, bytes, "covered pages, untied");
            common::assert_zero(memory.pages(zeros), "discarded pages, untied");
        }
    });
}

/// The parent's private bytes stay private: a covered page that the child writes, a copied page
/// of its tie.
#[test]
fn what_the_child_writes_privately_stays_there() {
    child::lives("private", || {
        let memory = Memory::private(8);
        let covered = memory.fill(2);
        let region = region(1, 2);
        let space = memory.borrow();
        let tie = space.tie(2 * page(), &region, .., Access::CopyOnWrite).unwrap();
        in_child("private", || {
            poke(tie.as_ptr().addr(), 1);
            poke(memory.start(), 1);
            drop((copy_in_child(&tie), copy_in_child(&space)));
            poke(memory.start() + 2 * page(), 2);
        });
        assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "the parent's tie");
        tie.untie().unwrap();
        assert_bytes(memory.start(), &covered, "covered pages, untied");
    });
}

/// Aliases that are parked or ready are the parent's: a child unmaps none of them, and shows nothing through
/// them; those of a hidden region are not there at all, wherever they were moved.
#[test]
fn parked_aliases_and_windows_are_the_parents() {
    child::lives("moved", || {
        for hidden in [false, true] {
            let region = Region::builder().hide_from_fork(hidden).build(3 * HUGE).unwrap();
            region.write_at(0, &pattern(1, region.len())).unwrap();
            let inode = common::map_of(region.as_ptr().addr()).inode;
            let mapped = || common::maps().iter().filter(|line| line.inode == inode).count();
            let memory = Memory::private(3 * HUGE / page());
            let covered = memory.fill(2);
            let space = memory.borrow();
            let tie = space.tie(2 * HUGE, &region, ..8 * page(), Access::CopyOnWrite).unwrap();
            poke(tie.as_ptr().addr(), 3);
            space.protect(2 * HUGE + page()..2 * HUGE + 2 * page(), Prot::Read).unwrap();
            let parked = tie.park().unwrap();
            let mut window = Window::new(&space, 0, HUGE, &region, Access::ReadWrite).unwrap();
            for n in [1, 2] {
                window.prepare(n * HUGE..(n + 1) * HUGE).unwrap();
                // What the first replaced is aside when the second is ready.
                window.show(HUGE..2 * HUGE).unwrap();
            }
            let before = mapped();
            in_child("moved", || {
                assert_eq!(mapped(), if hidden { 0 } else { before });
                let (mut window, parked) = (copy_in_child(&window), copy_in_child(&parked));
                assert_ended(window.show(0..1), "show");
                assert_ended(window.prepare(0..1), "prepare");
                assert_ended(window.preparer().prepare(0..1), "a preparer");
                assert_ended(space.discard_many(&[0..page(), page()..2 * page()]), "discard_many");
                let fresh = Space::reserve(HUGE).unwrap();
                let refused = parked.resume(&fresh, 0).expect_err("resume in a forked child");
                assert_eq!(refused.error.kind(), ErrorKind::Ended);
                drop((refused, window, fresh));
                assert_eq!(mapped(), if hidden { 0 } else { before });
            });
            assert_eq!(mapped(), before);
            assert_eq!(window.show(2 * HUGE..3 * HUGE).unwrap(), 0);
            let tie = parked.resume(&space, 2 * HUGE).unwrap();
            in_child("resumed", || assert_eq!(mapped() == 0, hidden));
            assert_eq!(common::peek(tie.as_ptr().addr()), 3, "its private page");
            drop((tie, window));
            assert_bytes(memory.start(), &covered, "covered pages, untied");
        }
    });
}
