//! Adopted memory is a region at the host's own address, and stays there when the region goes.

#![allow(unsafe_code, reason = "adopts memory that the test maps")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/filler.rs"]
mod filler;

use common::*;
use filler::{Filler, lines};
use libc::{PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{Access, ErrorKind, Prot, Region, Space};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const RW: i32 = PROT_READ | PROT_WRITE;

fn adopt(home: Range<usize>) -> pagetie::Result<Region> {
    let addr = ptr::with_exposed_provenance_mut(home.start);
    // SAFETY: memory of the test's own, read and written volatile, and mapped longer than the region lives.
    unsafe { Region::adopt(addr, home.len()) }
}

#[test]
fn the_hosts_address_shows_the_region_and_every_tie_of_it() {
    for (memory, run) in [
        (Memory::private(8), 2..6),
        (Memory::accounted(4), 0..4),
        (Memory::moved(8), 2..6),
        (Memory::private(2 * HUGE / page() + 8), 3..3 + 2 * HUGE / page()),
    ] {
        let bytes = memory.fill(1);
        let home = memory.pages(run.clone());
        let region = adopt(home.clone()).expect("adopt");
        assert_eq!(region.as_ptr().expose_provenance(), home.start);
        assert_eq!((region.len(), region.page_size()), (home.len(), page()));
        assert!(!region.is_read_only());
        assert_bytes(memory.start(), &bytes, "after adoption");
        assert_eq!(region_bytes(&region), bytes[pages(run.clone())]);
        assert_eq!(perms(home.clone()), vec!["rw-s"; run.len()]);

        let space = Space::reserve(8 * page()).unwrap();
        let first = space.tie(0, &region, ..2 * page(), Access::ReadWrite).unwrap();
        let second = space.tie(4 * page(), &region, page()..3 * page(), Access::ReadOnly).unwrap();
        poke(first.as_ptr().expose_provenance() + page(), 0x11);
        assert_eq!(peek(home.start + page()), 0x11);
        poke(home.start + page() + 1, 0x22);
        assert_eq!(peek(second.as_ptr().expose_provenance() + 1), 0x22);
        region.write_at(page() + 2, &[0x33]).unwrap();
        assert_eq!(peek(home.start + page() + 2), 0x33);
        region.discard(2 * page()..3 * page()).unwrap();
        assert_zero(home.start + 2 * page()..home.start + 3 * page(), "discarded");
        assert_eq!(region.grow(home.len() + page()).unwrap_err().kind(), ErrorKind::OutOfRange);

        // Another process' view of it.
        let again = Region::from_fd(region.fd().expect("a descriptor")).unwrap();
        assert_eq!(region_bytes(&again), read(home.clone()));
        drop(again);

        // The region goes first; its bytes stay, and so do the ties.
        let kept = read(home.clone());
        drop(region);
        assert_bytes(home.start, &kept, "after the region");
        poke(home.start + page(), 0x44);
        assert_eq!(peek(second.as_ptr().expose_provenance()), 0x44);
        drop((first, second, space));
        assert_eq!(peek(home.start + page()), 0x44);
        assert_eq!(perms(home), vec!["rw-s"; run.len()]);
    }
}

#[test]
fn nothing_is_left_but_the_memory_itself() {
    alone(|| {
        let memory = Memory::private(8);
        let bytes = memory.fill(1);
        let (count, open) = (maps().len(), descriptors());
        let region = adopt(memory.pages(2..5)).unwrap();
        // One mapping became three.
        assert_eq!((maps().len(), descriptors()), (count + 2, open + 1));
        drop(region);
        assert_eq!((maps().len(), descriptors()), (count + 2, open));
        assert_bytes(memory.start(), &bytes, "the memory");
        // As before, once the host maps private memory there.
        map(memory.pages(2..5).start, 3 * page(), RW, PRIVATE, None);
        assert!(maps().len() <= count + 2);
    });
}

#[test]
fn locked_memory_stays_locked() {
    alone(|| {
        let memory = Memory::private(8);
        let bytes = memory.fill(1);
        mlock(memory.pages(0..6)).unwrap();
        let whole = locked();
        let region = adopt(memory.pages(2..4)).unwrap();
        assert_eq!(locked(), whole);
        assert_eq!(flagged(memory.pages(1..5), "lo"), [true; 4]);
        assert_bytes(memory.start(), &bytes, "locked");
        let before = Picture::take(&[memory.all()]);
        let error = adopt(memory.pages(5..7)).expect_err("locked in part");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        before.assert_same(&Picture::take(&[memory.all()]), "refused");
        drop(region);
        assert_eq!(locked(), whole);
    });
}

#[test]
fn other_memory_is_refused_and_left_alone() {
    let file = memfd(&pattern(3, 4 * page()));
    let plain = |prot| map(0, 4 * page(), prot, PRIVATE, None);
    let striped = plain(RW);
    mprotect(striped + 2 * page()..striped + 3 * page(), PROT_READ);
    let holed = plain(RW);
    unmap(holed + 2 * page()..holed + 3 * page());
    let stack = 0u8;
    let on_the_stack = pagetie::page::round_down(ptr::from_ref(&stack).addr(), page());
    let (memory, borrowed) = (Memory::private(4), Memory::private(4));
    let region = adopt(memory.all()).unwrap();
    let space = borrowed.borrow();
    let at = |addr: usize| addr..addr + 4 * page();
    let refused = ErrorKind::RefusedMemory;
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    for (what, home, kind) in [
        ("a shared map", at(map(0, 4 * page(), RW, libc::MAP_SHARED, Some(&file))), refused),
        ("a private file map", at(map(0, 4 * page(), RW, libc::MAP_PRIVATE, Some(&file))), refused),
        ("shared memory", at(map(0, 4 * page(), RW, shared, None)), refused),
        ("adopted memory", memory.pages(1..2), refused),
        ("code", at(plain(PROT_READ | PROT_WRITE | PROT_EXEC)), refused),
        ("inaccessible memory", at(plain(PROT_NONE)), refused),
        ("a read-only page inside", at(striped), refused),
        ("the stack", on_the_stack..on_the_stack + page(), refused),
        ("a hole", at(holed), ErrorKind::NotMapped),
        ("NULL", 0..4 * page(), ErrorKind::NotMapped),
        ("off a page", striped + 1..striped + 1 + page(), ErrorKind::Misaligned),
        ("half a page", striped..striped + page() / 2, ErrorKind::Misaligned),
        ("nothing", striped..striped, ErrorKind::Empty),
        ("a live space", borrowed.pages(3..4), ErrorKind::Overlap),
    ] {
        let before = maps_in(home.clone());
        let error = adopt(home.clone()).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        if what != "the stack" {
            assert_eq!(maps_in(home), before, "{what}");
        }
    }
    // And a tie over its own view, as of any region.
    let over = memory.borrow();
    let error =
        over.tie(0, &region, page()..2 * page(), Access::ReadOnly).expect_err("its own view");
    assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
    drop((space, over));
}

/// Who reads meanwhile reads the same bytes before and after.
#[test]
fn readers_see_the_same_bytes_throughout() {
    let memory = Memory::private(64);
    write(memory.start(), &vec![0x5a; memory.len()]);
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..2 {
            let (stop, rounds, all) = (&stop, &rounds, memory.all());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for addr in all.clone().step_by(page()) {
                        assert_eq!(peek(addr + seed), 0x5a, "page {}", (addr - all.start) / page());
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..100 {
            // Not seen by the readers as a change: private pages of the same bytes, moved in.
            let fresh = map(0, memory.len(), RW, PRIVATE, None);
            write(fresh, &vec![0x5a; memory.len()]);
            let from = ptr::with_exposed_provenance_mut(fresh);
            let to: *mut libc::c_void = ptr::with_exposed_provenance_mut(memory.start());
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            // SAFETY: both are the test's own.
            let got = unsafe { libc::mremap(from, memory.len(), memory.len(), flags, to) };
            assert_eq!(got, to);
            drop(adopt(memory.all()).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(rounds.load(Ordering::Relaxed) > 0, "nobody read");
}

#[test]
fn a_forked_child_shares_it() {
    child::lives("a fork", || {
        let memory = Memory::private(2);
        memory.fill(1);
        let region = adopt(memory.all()).unwrap();
        // SAFETY: the child writes a byte, and ends with `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let wrote = region.write_at(0, &[0x77]).is_ok();
            drop(region);
            poke(memory.start() + 1, 0x78);
            // SAFETY: ends the process; nothing of the parent's is flushed or dropped on the way.
            unsafe { libc::_exit(i32::from(!wrote)) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert_eq!((peek(memory.start()), peek(memory.start() + 1)), (0x77, 0x78));
        drop(region);
    });
}

/// Adopted memory is not lent, and lent memory not adopted; adopted memory can be borrowed, as any shared
/// memory can.
#[test]
fn adopted_memory_under_a_space_comes_back() {
    let memory = Memory::private(8);
    let bytes = memory.fill(1);
    let region = adopt(memory.all()).unwrap();
    let space = memory.borrow();
    let other = common::region(2, 2);
    let tie = space.tie(2 * page(), &other, .., Access::ReadWrite).unwrap();
    assert_bytes(memory.pages(2..4).start, &pattern(2, 2 * page()), "tied over");
    region.write_at(2 * page(), &[0x99]).unwrap();
    assert_eq!(peek(memory.pages(2..3).start), 0x99, "the view shows what lies there: the tie");
    tie.untie().unwrap();
    assert_bytes(memory.start(), &bytes, "uncovered");
    assert_eq!(space.discard(..page()).unwrap_err().kind(), ErrorKind::Unsupported);
    space.protect(..page(), Prot::Read).unwrap();
    assert_eq!(perms(memory.pages(0..2)), ["r--s", "rw-s"]);
}

#[test]
fn too_little_memory_or_addresses_change_nothing() {
    child::lives("no descriptor", || {
        let memory = Memory::private(4);
        let bytes = memory.fill(1);
        drop(Region::new(page()).unwrap());
        let before = maps_in(memory.arena());
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads and sets a limit of this process.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
            let none = libc::rlimit { rlim_cur: 0, ..limit };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &none), 0);
        }
        let error = adopt(memory.all()).expect_err("no descriptor");
        // SAFETY: as above.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0) };
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        assert_eq!(maps_in(memory.arena()), before);
        assert_bytes(memory.start(), &bytes, "no descriptor");
    });
    child::lives("no addresses", || {
        let memory = Memory::private(1024);
        let bytes = memory.fill(1);
        let _space = Space::reserve(page()).unwrap();
        let before = maps_in(memory.arena());
        let used = std::fs::read_to_string("/proc/self/statm").unwrap();
        let used: u64 = used.split(' ').next().unwrap().parse().unwrap();
        // Room for half a copy.
        let bytes_of = (used + 512) * page() as u64;
        let limit = libc::rlimit { rlim_cur: bytes_of, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: sets a limit of this process.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0) };
        let error = adopt(memory.all()).expect_err("no addresses");
        let whole = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, ..limit };
        // SAFETY: as above.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &whole), 0) };
        assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
        assert_eq!(maps_in(memory.arena()), before);
        assert_bytes(memory.start(), &bytes, "no addresses");
        adopt(memory.all()).expect("there is room now");
    });
}

/// For so many mappings there is room: around what a call takes with the ballast there, and without it.
const ROOMS: [usize; 12] = [0, 1, 2, 3, 6, 9, 12, 15, 16, 17, 18, 24];

/// Memory of the host's, `run` of which is adopted at the mapping limit.
struct Tight {
    pages: usize,
    run: Range<usize>,
    locked: bool,
}

impl Tight {
    /// Adopted, or refused and as it was: says which.
    fn adopt(&self, filler: &mut Filler, room: usize) -> bool {
        let memory = Memory::private(self.pages);
        let bytes = memory.fill(room as u64);
        if self.locked {
            mlock(memory.all()).expect("locked once already");
        }
        let (arena, home) = ([memory.arena()], memory.pages(self.run.clone()));
        let (before, open, lock) = (lines(&arena), descriptors(), locked());
        filler.fill();
        filler.free(room);
        let adopted = adopt(home.clone());
        let what = format!("{:?} of {}, room for {room}: {adopted:?}", self.run, self.pages);
        assert_bytes(memory.start(), &bytes, &what);
        assert_eq!(locked(), lock, "{what}");
        let region = match &adopted {
            Ok(region) => region,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limit, "{what}");
                assert_eq!((lines(&arena), descriptors()), (before, open), "{what}");
                filler.free(40);
                &adopt(home.clone()).expect("there is room now")
            }
        };
        // One mapping of the region's, and its bytes.
        let shown = lines(std::slice::from_ref(&home));
        let range = format!("{:x}-{:x} rw-s ", home.start, home.end);
        assert!(shown.len() == 1 && shown[0].starts_with(&range), "{what}: {shown:?}");
        assert_bytes(memory.start(), &bytes, &what);
        poke(home.start, !bytes[home.start - memory.start()]);
        assert_eq!(region_bytes(region)[0], peek(home.start), "{what}");
        adopted.is_ok()
    }
}

/// Without a space the ballast is taken for the call alone.
#[test]
fn at_the_mapping_limit_memory_is_adopted_or_left_alone() {
    for beside_a_space in [false, true] {
        child::lives(&format!("beside a space: {beside_a_space}"), || {
            // What the crate makes for good.
            drop(Space::reserve(page()).unwrap());
            let (space, small) =
                (beside_a_space.then(|| Space::reserve(page()).unwrap()), region(1, 1));
            // Before what is looked at, so that it comes behind it in the kernel's list.
            let Some(mut filler) = Filler::new(400) else { return };
            let large = 2 * HUGE / page();
            let locked = match mlock(Memory::private(8).all()) {
                Ok(()) => Some(Tight { pages: 8, run: 2..6, locked: true }),
                Err(error) => {
                    skip(format_args!("adopting locked memory at the limit: mlock: {error}"));
                    None
                }
            };
            let plain = [(8, 2..6), (8, 0..8), (large + 8, 3..large + 3)];
            let plain = plain.map(|(pages, run)| Tight { pages, run, locked: false });
            for tight in plain.into_iter().chain(locked) {
                let (mut adopted, others) = (0, filler.others());
                for room in ROOMS {
                    adopted += usize::from(tight.adopt(&mut filler, room));
                    filler.fill();
                    filler.free(200);
                    // Lays ballast that an adopted region took the place of.
                    if let Some(space) = &space {
                        space.tie(0, &small, .., Access::ReadWrite).unwrap().untie().unwrap();
                    }
                    assert_eq!(filler.others(), others, "{:?}, room for {room}", tight.run);
                }
                assert!((1..ROOMS.len()).contains(&adopted), "{:?}: {adopted} adopted", tight.run);
            }
        });
    }
}
