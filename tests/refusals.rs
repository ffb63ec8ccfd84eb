//! A refused call has changed nothing.
//!
//! Every test asks for something that must be refused and compares, before and after, all
//! mappings of the process, its locked bytes, the bytes of the memory involved and the list of
//! ties. It then looks at the error: kind, ranges, nearest valid values, and one line of text that
//! carries the numbers.

#![allow(unsafe_code, reason = "tests map and unmap memory of their own, as an engine would")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is watched is a list of ranges, of one sometimes"
)]

mod common;

use std::fmt::{Debug, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::{Bound, Range};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use common::*;
use pagetie::{
    Access, Covered, Error, ErrorKind, HugePages, Prefault, Prot, Region, Result, Space, Tie,
    TieOptions, TieSpec,
};

/// What came back instead of the thing asked for.
struct Refusal {
    what: String,
    error: Error,
    text: String,
}

/// Makes a call that must be refused and compares everything before and after.
#[track_caller]
fn refuse<T: Debug>(
    what: &str,
    watched: &[Range<usize>],
    spaces: &[&Space],
    call: impl FnOnce() -> Result<T>,
) -> Refusal {
    let ties =
        |spaces: &[&Space]| format!("{:?}", spaces.iter().map(|s| s.ties()).collect::<Vec<_>>());
    let ties_before = ties(spaces);
    let before = Picture::take(watched);
    let result = call();
    let after = Picture::take(watched);
    let error = match result {
        Ok(done) => panic!("{what}: not refused, but {done:?}"),
        Err(error) => error,
    };
    before.assert_same(&after, what);
    assert_eq!(ties_before, ties(spaces), "{what}: the list of ties");
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{what}: not one line of text: {text:?}");
    assert!(!format!("{error:?}").is_empty());
    Refusal { what: what.to_owned(), error, text }
}

/// A space over whatever lies at an address, where it is to be refused.
fn borrow(start: usize, len: usize) -> Result<Space> {
    // SAFETY: a space that is never tied into changes nothing.
    unsafe { Space::borrow(ptr::with_exposed_provenance_mut(start), len) }
}

fn u32_at(region: &Region, offset: usize) -> Result<u32> {
    // SAFETY: nothing else accesses the region meanwhile.
    unsafe { region.atomic_u32(offset) }.map(|value| value.load(Relaxed))
}

fn u64_at(region: &Region, offset: usize) -> Result<u64> {
    // SAFETY: nothing else accesses the region meanwhile.
    unsafe { region.atomic_u64(offset) }.map(|value| value.load(Relaxed))
}

impl Refusal {
    #[track_caller]
    fn is(self, kind: ErrorKind) -> Self {
        assert_eq!(self.error.kind(), kind, "{}: {}", self.what, self.text);
        if !matches!(kind, ErrorKind::Os | ErrorKind::NoMemory | ErrorKind::Limit) {
            assert_eq!(
                self.error.raw_os_error(),
                None,
                "{}: no call of the kernel failed",
                self.what
            );
        }
        if kind != ErrorKind::Misaligned {
            assert_eq!(self.error.nearest(), None, "{}: {}", self.what, self.text);
        }
        // A read-only tie is met; a read-only region is no range of a space.
        let met = match kind {
            ErrorKind::Overlap | ErrorKind::NotMapped | ErrorKind::RefusedMemory => Some(true),
            ErrorKind::ReadOnly => None,
            _ => Some(false),
        };
        if let Some(met) = met {
            assert_eq!(self.error.other_range().is_some(), met, "{}: {}", self.what, self.text);
        }
        self
    }

    /// No other range is to blame.
    #[track_caller]
    fn met_nothing(self) -> Self {
        assert_eq!(self.error.other_range(), None, "{}: {}", self.what, self.text);
        self
    }

    /// The range asked for, in the error and in its text.
    #[track_caller]
    fn range(self, range: Range<usize>) -> Self {
        assert_eq!(self.error.range(), Some(range.clone()), "{}: {}", self.what, self.text);
        self.names(range)
    }

    /// The live range, the hole or the mapping that was met, in the error and in its text.
    #[track_caller]
    fn met(self, range: Range<usize>) -> Self {
        assert_eq!(self.error.other_range(), Some(range.clone()), "{}: {}", self.what, self.text);
        self.names(range)
    }

    #[track_caller]
    fn names(self, range: Range<usize>) -> Self {
        let end = self.text.contains(&format!("{:#x}", range.end));
        let len = self.text.contains(&format!("{:#x}", range.len()));
        assert!(end || len, "{}: no end or length of {range:#x?} in {:?}", self.what, self.text);
        self.says(&[range.start])
    }

    #[track_caller]
    fn nearest(self, below: usize, above: usize) -> Self {
        assert_eq!(self.error.nearest(), Some((below, above)), "{}: {}", self.what, self.text);
        self.says(&[below, above])
    }

    #[track_caller]
    fn index(self, index: usize) -> Self {
        assert_eq!(self.error.index(), Some(index), "{}: {}", self.what, self.text);
        assert!(self.text.contains(&index.to_string()), "{}: {}", self.what, self.text);
        self
    }

    /// Numbers that the text must hold, as hexadecimal.
    #[track_caller]
    fn says(self, numbers: &[usize]) -> Self {
        for number in numbers {
            let hex = format!("{number:#x}");
            assert!(self.text.contains(&hex), "{}: no {hex} in {:?}", self.what, self.text);
        }
        self
    }
}

/// Sixteen pages of borrowed memory whose pages 4..8 show pages 0..4 of a region.
struct Scene {
    tie: Tie,
    space: Space,
    region: Region,
    mem: Memory,
}

impl Scene {
    const PAGES: usize = 16;
    const REGION_PAGES: usize = 8;

    fn new(access: Access) -> Self {
        let mem = Memory::private(Self::PAGES);
        mem.fill(1);
        let region = region(2, Self::REGION_PAGES);
        let space = mem.borrow();
        let tie = space.tie(4 * page(), &region, ..4 * page(), access).expect("tie pages 4..8");
        Self { tie, space, region, mem }
    }

    #[track_caller]
    fn refuse<T: Debug>(&self, what: &str, call: impl FnOnce() -> Result<T>) -> Refusal {
        let view = self.region.as_ptr().addr();
        let watched = [self.mem.arena(), view..view + self.region.len()];
        refuse(what, &watched, &[&self.space], call)
    }

    #[track_caller]
    fn refuse_tie(&self, what: &str, at: usize, range: Range<usize>) -> Refusal {
        self.refuse(what, || self.space.tie(at, &self.region, range, Access::ReadWrite))
    }
}

// ------------------------------------------------------------------------------ arithmetic

#[test]
fn misaligned_at() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        for skew in [1, 8, p / 2, p - 1] {
            let at = 10 * p + skew;
            scene
                .refuse_tie("misaligned at", at, 0..p)
                .is(ErrorKind::Misaligned)
                .range(at..at + p)
                .nearest(10 * p, 11 * p)
                .says(&[at, p]);
        }
    });
}

#[test]
fn misaligned_offset() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        for skew in [1, 8, p / 2, p - 1] {
            scene
                .refuse_tie("misaligned offset", 10 * p, p + skew..2 * p + skew)
                .is(ErrorKind::Misaligned)
                .nearest(p, 2 * p)
                .says(&[p + skew, p]);
        }
    });
}

#[test]
fn misaligned_len() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        for skew in [1, 8, p / 2, p - 1] {
            scene
                .refuse_tie("misaligned len", 10 * p, p..3 * p + skew)
                .is(ErrorKind::Misaligned)
                .nearest(2 * p, 3 * p)
                .says(&[2 * p + skew, p]);
        }
        // Less than a page: the value below is no length to ask for, and still the one below.
        scene.refuse_tie("half a page", 10 * p, 0..p / 2).is(ErrorKind::Misaligned).nearest(0, p);
    });
}

#[test]
fn misaligned_together() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        for (at, offset, len) in [(1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1), (p - 1, 8, p / 2)] {
            let (at, offset, len) = (10 * p + at, p + offset, p + len);
            let refusal = scene.refuse_tie("misaligned", at, offset..offset + len);
            let refusal = refusal.is(ErrorKind::Misaligned).says(&[p]);
            let (below, above) = refusal.error.nearest().expect("nearest values");
            assert!(
                [at, offset, len].iter().any(|v| below < *v && *v < above && above - below == p),
                "{}: no value lies between {below:#x} and {above:#x}",
                refusal.text
            );
        }
    });
}

#[test]
fn misaligned_where_the_memory_is() {
    // Memory of an engine that starts inside a page: the start may be borrowed, and the places
    // that may be tied are counted from it.
    alone(|| {
        let mem = Memory::private(8);
        mem.fill(1);
        let region = region(2, 2);
        let p = page();
        let space = mem.try_borrow(mem.start() + 40..mem.start() + 8 * p).expect("borrow");
        assert_eq!(space.len(), 8 * p - 40);
        refuse("a page of the space", &[mem.arena()], &[&space], || {
            space.tie(p, &region, ..p, Access::ReadWrite)
        })
        .is(ErrorKind::Misaligned)
        .nearest(p - 40, 2 * p - 40);
        let tie = space.tie(p - 40, &region, ..p, Access::ReadWrite).expect("a page of memory");
        assert_eq!(tie.as_ptr().addr(), mem.start() + p);
        assert_bytes(mem.start() + p, &pattern(2, p), "the page tied");
        refuse("past the end by 40", &[mem.arena()], &[&space], || {
            space.tie(8 * p - 40, &region, ..p, Access::ReadWrite)
        })
        .is(ErrorKind::OutOfRange);
    });
}

#[test]
fn misaligned_elsewhere() {
    alone(|| {
        let mut scene = Scene::new(Access::ReadWrite);
        let p = page();
        for range in [8 * p + 1..10 * p, 8 * p..10 * p - 1, 8 * p + 8..10 * p + 8] {
            scene
                .refuse("protect", || scene.space.protect(range.clone(), Prot::Read))
                .is(ErrorKind::Misaligned);
            scene
                .refuse("discard", || scene.space.discard(range.clone()))
                .is(ErrorKind::Misaligned);
        }
        scene
            .refuse("region discard", || scene.region.discard(1..2 * p))
            .is(ErrorKind::Misaligned)
            .nearest(0, p);
        scene
            .refuse("region", || Region::new(3 * p + 1))
            .is(ErrorKind::Misaligned)
            .nearest(3 * p, 4 * p)
            .says(&[3 * p + 1, p]);
        scene
            .refuse("reserve", || Space::reserve(p + 1))
            .is(ErrorKind::Misaligned)
            .nearest(p, 2 * p);
        scene.refuse("atomic", || u32_at(&scene.region, 2)).is(ErrorKind::Misaligned).nearest(0, 4);
        scene
            .refuse("atomic", || u64_at(&scene.region, 12))
            .is(ErrorKind::Misaligned)
            .nearest(8, 16);
        let (before, region) = (Picture::take(&[scene.mem.arena()]), scene.region.clone());
        let error = scene.tie.retie(&region, p + 8).expect_err("a misaligned offset");
        before.assert_same(&Picture::take(&[scene.mem.arena()]), "retie");
        assert_eq!(error.kind(), ErrorKind::Misaligned);
        assert_eq!(error.nearest(), Some((p, 2 * p)));
        assert_eq!((scene.tie.offset(), scene.tie.is_live()), (0, true));
    });
}

#[test]
fn nothing_at_all() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        scene.refuse_tie("zero length", 10 * p, p..p).is(ErrorKind::Empty);
        scene.refuse_tie("zero length at the end", 16 * p, 8 * p..8 * p).is(ErrorKind::Empty);
        scene
            .refuse("protect nothing", || scene.space.protect(p..p, Prot::None))
            .is(ErrorKind::Empty);
        scene.refuse("discard nothing", || scene.space.discard(p..p)).is(ErrorKind::Empty);
        scene.refuse("region", || Region::new(0)).is(ErrorKind::Empty);
        scene.refuse("reserve", || Space::reserve(0)).is(ErrorKind::Empty);
        scene
            .refuse("borrow", || scene.mem.try_borrow(scene.mem.start()..scene.mem.start()))
            .is(ErrorKind::Empty);
    });
}

#[test]
fn beyond_usize_max() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        let last = usize::MAX - p + 1;
        let beyond = ErrorKind::OutOfRange;
        scene.refuse_tie("at wraps", last, 0..2 * p).is(beyond).says(&[last]);
        scene.refuse_tie("at ends at the very end", last, 0..p).is(beyond).says(&[last]);
        scene.refuse_tie("offset", p, last - p..last).is(beyond).says(&[last - p]);
        scene.refuse_tie("both", last, last - p..last).is(beyond);
        scene.refuse("an included end past the last number", || {
            scene.space.tie(p, &scene.region, ..=usize::MAX, Access::ReadWrite)
        });
        scene.refuse("an excluded start past the last number", || {
            let range = (Bound::Excluded(usize::MAX), Bound::Unbounded);
            scene.space.tie(p, &scene.region, range, Access::ReadWrite)
        });
        scene.refuse("protect", || scene.space.protect(last - p..last, Prot::None)).is(beyond);
        scene.refuse("discard", || scene.space.discard(last - p..last)).is(beyond);
        scene.refuse("inspect", || scene.space.inspect(last - p..last)).is(beyond);
        scene.refuse("read", || scene.region.read_at(usize::MAX, &mut [0; 8])).is(beyond);
        scene.refuse("write", || scene.region.write_at(usize::MAX - 3, &[1; 8])).is(beyond);
        scene.refuse("bytes", || scene.region.bytes(usize::MAX - 8..usize::MAX)).is(beyond);
        scene.refuse("region discard", || scene.region.discard(last - p..last)).is(beyond);
        scene.refuse("prefetch", || scene.region.prefetch(last - p..last)).is(beyond);
        scene.refuse("grow", || scene.region.grow(last)).is(beyond);
        scene.refuse("a region of every address", || Region::new(last));
        scene.refuse("a space of every address", || Space::reserve(last));
        for (start, len) in [(last, 2 * p), (last, p), (scene.mem.start(), last), (p, usize::MAX)] {
            scene.refuse("borrow past the last address", || borrow(start, len));
        }
    });
}

#[test]
fn backwards() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        let (start, end) = (3 * p, p);
        scene.refuse_tie("tie", 10 * p, start..end);
        scene.refuse("protect", || scene.space.protect(start..end, Prot::None));
        scene.refuse("discard", || scene.space.discard(start..end));
        scene.refuse("inspect", || scene.space.inspect(start..end));
        scene.refuse("bytes", || scene.region.bytes(start..end));
        scene.refuse("region discard", || scene.region.discard(start..end));
        scene.refuse("prefetch", || scene.region.prefetch(start..end));
        scene.refuse("atomics", || scene.region.atomic_u8(start..end).map(|_| ()));
    });
}

#[test]
fn past_the_end() {
    alone(|| {
        let mut scene = Scene::new(Access::ReadWrite);
        let p = page();
        let beyond = ErrorKind::OutOfRange;
        scene.refuse_tie("at the end", 16 * p, 0..p).is(beyond).range(16 * p..17 * p);
        scene.refuse_tie("over the end", 15 * p, 0..2 * p).is(beyond).range(15 * p..17 * p);
        scene.refuse_tie("region's end", 10 * p, 8 * p..9 * p).is(beyond).says(&[8 * p]);
        scene.refuse_tie("over the region's end", 10 * p, 7 * p..9 * p).is(beyond).says(&[8 * p]);
        scene
            .refuse("protect", || scene.space.protect(15 * p..17 * p, Prot::None))
            .is(beyond)
            .range(15 * p..17 * p);
        scene
            .refuse("discard", || scene.space.discard(15 * p..17 * p))
            .is(beyond)
            .range(15 * p..17 * p);
        scene.refuse("inspect", || scene.space.inspect(0..16 * p + 1)).is(beyond);
        let end = 8 * p;
        scene.refuse("read", || scene.region.read_at(end - 3, &mut [0; 4])).is(beyond).says(&[end]);
        scene.refuse("write", || scene.region.write_at(end - 3, &[1; 4])).is(beyond).says(&[end]);
        scene.refuse("write past", || scene.region.write_at(end, &[1])).is(beyond).says(&[end]);
        scene.refuse("bytes", || scene.region.bytes(..=end)).is(beyond);
        scene.refuse("atomics", || scene.region.atomic_u8(end..end + 1).map(|_| ())).is(beyond);
        scene.refuse("u32", || u32_at(&scene.region, end)).is(beyond);
        scene.refuse("u64", || u64_at(&scene.region, end)).is(beyond);
        scene.refuse("region discard", || scene.region.discard(7 * p..9 * p)).is(beyond);
        scene.refuse("prefetch", || scene.region.prefetch(7 * p..9 * p)).is(beyond);

        let (before, region) = (Picture::take(&[scene.mem.arena()]), scene.region.clone());
        let error = scene.tie.retie(&region, 5 * p).expect_err("four pages from page 5 of 8");
        before.assert_same(&Picture::take(&[scene.mem.arena()]), "retie");
        assert_eq!(error.kind(), beyond);
        assert_eq!((scene.tie.offset(), scene.tie.is_live()), (0, true));
    });
}

// ------------------------------------------------------------------------------ overlap

#[test]
fn overlap_with_a_live_tie() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        let p = page();
        let live = 4 * p..8 * p;
        for (what, first, end) in [
            ("one page at its start", 3, 5),
            ("one page at its end", 7, 9),
            ("its first page", 4, 5),
            ("its last page", 7, 8),
            ("inside", 5, 7),
            ("the same", 4, 8),
            ("around", 2, 10),
        ] {
            let at = first * p..end * p;
            scene
                .refuse_tie(what, at.start, 0..at.len())
                .is(ErrorKind::Overlap)
                .range(at)
                .met(live.clone());
        }
        // The pages beside it are free.
        let before =
            scene.space.tie(2 * p, &scene.region, ..2 * p, Access::ReadWrite).expect("before");
        let after = scene.space.tie(8 * p, &scene.region, ..p, Access::ReadOnly).expect("after");
        assert!(before.is_live() && scene.tie.is_live() && after.is_live());
    });
}

#[test]
fn overlap_with_the_regions_own_view() {
    alone(|| {
        let region = region(3, 8);
        let p = page();
        let view = region.as_ptr().addr()..region.as_ptr().addr() + region.len();
        // SAFETY: the view outlives the space, and nothing refers into it.
        let space =
            unsafe { Space::borrow(region.as_ptr(), region.len()) }.expect("borrow the view");
        let watched = [view.clone()];
        for (at, offset) in [(0, 0), (0, 2), (3, 3), (7, 0)] {
            let refusal = refuse("the region's own view", &watched, &[&space], || {
                space.tie(at * p, &region, offset * p..(offset + 1) * p, Access::ReadWrite)
            });
            refusal.is(ErrorKind::Overlap).range(at * p..(at + 1) * p);
        }
        // A clone is the same region.
        refuse("a clone", &watched, &[&space], || {
            space.tie(0, &region.clone(), .., Access::ReadOnly)
        })
        .is(ErrorKind::Overlap);
    });
}

#[test]
fn memory_of_another_space() {
    alone(|| {
        let mem = Memory::private(16);
        mem.fill(1);
        let first = mem.try_borrow(mem.pages(4..8)).expect("borrow");
        for (what, pages) in [
            ("the same", 4..8),
            ("inside", 5..6),
            ("around", 0..16),
            ("one page at its start", 2..5),
            ("one page at its end", 7..12),
        ] {
            refuse(what, &[mem.arena()], &[&first], || mem.try_borrow(mem.pages(pages.clone())))
                .is(ErrorKind::Overlap)
                .range(mem.pages(pages.clone()))
                .met(mem.pages(4..8));
        }
        let before = mem.try_borrow(mem.pages(0..4)).expect("the pages before");
        let after = mem.try_borrow(mem.pages(8..16)).expect("the pages after");
        assert_eq!((before.len(), after.len()), (4 * page(), 8 * page()));
        drop(first);
        mem.try_borrow(mem.pages(4..8)).expect("the memory is free again");

        // A reserved space is a live space like any other.
        let reserved = Space::reserve(4 * page()).expect("reserve");
        reserved.protect(.., Prot::ReadWrite).expect("open it");
        refuse("reserved", &[], &[&reserved], || borrow(reserved.as_ptr().addr() + page(), page()))
            .is(ErrorKind::Overlap);
    });
}

// ------------------------------------------------------------------------------ what may be borrowed

#[test]
fn nowhere() {
    alone(|| {
        refuse("NULL", &[], &[], || borrow(0, page())).is(ErrorKind::NotMapped).range(0..page());
    });
}

#[test]
fn holes() {
    alone(|| {
        let mem = Memory::private(8);
        mem.fill(1);
        unmap(mem.pages(3..4));
        for (what, pages) in
            [("a hole", 3..4), ("ends in a hole", 1..4), ("starts in one", 3..6), ("around", 0..8)]
        {
            refuse(what, &[mem.arena()], &[], || mem.try_borrow(mem.pages(pages.clone())))
                .is(ErrorKind::NotMapped)
                .range(mem.pages(pages.clone()))
                .met(mem.pages(3..4));
        }
        let space = mem.try_borrow(mem.pages(4..8)).expect("the pages after the hole");
        assert_eq!(space.len(), 4 * page());
        map(mem.pages(3..4).start, page(), libc::PROT_NONE, PRIVATE, None);
    });
}

#[test]
fn holes_that_came_later() {
    alone(|| {
        let mem = Memory::private(8);
        mem.fill(1);
        let region = region(2, 8);
        let space = mem.borrow();
        let p = page();
        unmap(mem.pages(3..4));
        for covered in [Covered::Keep, Covered::Discard] {
            for pages in [3..4, 2..4, 3..5, 0..8] {
                refuse("tie over a hole", &[mem.arena()], &[&space], || {
                    let how = TieOptions::new(Access::ReadWrite).covered(covered);
                    space.tie(pages.start * p, &region, ..pages.len() * p, how)
                })
                .is(ErrorKind::NotMapped)
                .range(pages.start * p..pages.end * p)
                .met(3 * p..4 * p);
            }
        }
        for pages in [3..4, 2..4, 3..5, 0..8] {
            refuse("protect a hole", &[mem.arena()], &[&space], || {
                space.protect(pages.start * p..pages.end * p, Prot::Read)
            })
            .is(ErrorKind::NotMapped)
            .met(3 * p..4 * p);
        }
        let found = space.inspect(..).expect("inspect");
        assert_eq!(found.len(), 2, "a hole is a gap between mappings: {found:?}");
        drop(space);
        map(mem.pages(3..4).start, p, libc::PROT_NONE, PRIVATE, None);
    });
}

/// A page of memory that [`maps`] lists under `name`.
fn page_of(name: &str) -> usize {
    let line = maps().into_iter().find(|l| l.name == name).unwrap_or_else(|| panic!("no {name}"));
    line.range.end - page()
}

#[test]
fn stacks() {
    alone(|| {
        // This thread is not the first one: its own stack is anonymous memory, the first one's is
        // listed by name.
        let local = 0u8;
        let own = pagetie::page::round_down(ptr::from_ref(&local).addr(), page());
        assert_eq!(map_of(own).name, "", "the test runs on a thread of its own");
        for (what, start) in [("own stack", own), ("the first thread's stack", page_of("[stack]"))]
        {
            refuse(what, &[], &[], || borrow(start, page()))
                .is(ErrorKind::RefusedMemory)
                .range(start..start + page());
        }
        let line = map_of(own).range;
        refuse("all of the own stack", &[], &[], || borrow(line.start, line.end - line.start))
            .is(ErrorKind::RefusedMemory);
    });
}

#[test]
fn heap() {
    alone(|| {
        let heap = page_of("[heap]");
        refuse("[heap]", &[heap..heap + page()], &[], || borrow(heap, page()))
            .is(ErrorKind::RefusedMemory)
            .range(heap..heap + page());

        // Pages of a block that stays allocated may be tied by who says so.
        let p = page();
        let layout = std::alloc::Layout::from_size_align(4 * p, p).expect("a layout");
        // SAFETY: the layout is not empty.
        let block = unsafe { std::alloc::alloc(layout) };
        let line = map_of(block.expose_provenance());
        assert_eq!(line.name, "[heap]", "a small block of the first arena");
        refuse("a block", &[], &[], || borrow(block.addr(), 4 * p)).is(ErrorKind::RefusedMemory);
        write(block.addr(), &pattern(1, 4 * p));
        // SAFETY: the block is used by this test only and freed after the space is gone.
        let space = unsafe { Space::borrow_heap(block, 4 * p) }.expect("borrow_heap");
        let tie = space.tie(p, &region(2, 2), .., Access::ReadWrite).expect("tie two pages");
        assert_bytes(block.addr() + p, &pattern(2, 2 * p), "tied");
        tie.untie().expect("untie");
        assert_bytes(block.addr(), &pattern(1, 4 * p), "untied");
        drop(space);
        // SAFETY: allocated above with this layout.
        unsafe { std::alloc::dealloc(block, layout) };
    });
}

#[test]
fn executable() {
    alone(|| {
        let code = pagetie::page::round_down(executable as *const () as usize, page());
        refuse("the program's code", &[code..code + page()], &[], || borrow(code, page()))
            .is(ErrorKind::RefusedMemory)
            .range(code..code + page());

        let mem = Memory::private(8);
        mem.fill(1);
        mprotect(mem.pages(3..4), libc::PROT_READ | libc::PROT_EXEC);
        for pages in [3..4, 0..4, 3..8, 0..8] {
            refuse("code", &[mem.arena()], &[], || mem.try_borrow(mem.pages(pages.clone())))
                .is(ErrorKind::RefusedMemory)
                .range(mem.pages(pages));
        }

        // Pages that became executable after they were borrowed are not ours to protect.
        let space = mem.try_borrow(mem.pages(4..8)).expect("pages that hold data");
        mprotect(mem.pages(6..7), libc::PROT_READ | libc::PROT_EXEC);
        for prot in [Prot::None, Prot::Read, Prot::ReadWrite] {
            refuse("protect code", &[mem.arena()], &[&space], || space.protect(.., prot))
                .is(ErrorKind::RefusedMemory);
        }
    });
}

#[test]
fn hugetlb_memory() {
    alone(|| {
        let (size, free) = huge_pages();
        if free < 1 {
            return skip("no huge page is free");
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        let start = map(0, size, libc::PROT_READ | libc::PROT_WRITE, flags, None);
        poke(start, 7);
        for len in [page(), size] {
            refuse("hugetlb", &[start..start + page()], &[], || borrow(start, len))
                .is(ErrorKind::RefusedMemory)
                .range(start..start + len);
        }
        unmap(start..start + size);
    });
}

#[test]
fn private_ties_of_a_huge_page_region() {
    alone(|| {
        let (size, free) = huge_pages();
        if free < 1 {
            return skip("no huge page is free");
        }
        let region = Region::builder()
            .huge_pages(HugePages::Require(size))
            .build(size)
            .expect("a region of one huge page");
        let space = Space::reserve(2 * size).expect("reserve");
        for access in [Access::ReadOnly, Access::CopyOnWrite] {
            refuse("private", &[], &[&space], || space.tie(0, &region, .., access))
                .is(ErrorKind::Unsupported);
        }
        refuse("a base page", &[], &[&space], || {
            space.tie(0, &region, ..page(), Access::ReadWrite)
        })
        .is(ErrorKind::Misaligned)
        .nearest(0, size);
        refuse("at a base page", &[], &[&space], || {
            space.tie(page(), &region, .., Access::ReadWrite)
        })
        .is(ErrorKind::Misaligned);
        refuse("discard a base page", &[], &[&space], || region.discard(..page()))
            .is(ErrorKind::Misaligned);
    });
}

// ------------------------------------------------------------------------------ what a tie may do

/// A file of `pages` pages that holds `pattern(seed, ..)`, and its path.
fn file(seed: u64, pages: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&pattern(seed, pages * page())).expect("fill it");
    file
}

#[test]
fn writing_to_a_read_only_region() {
    alone(|| {
        let file = file(3, 4);
        let mem = Memory::private(8);
        mem.fill(1);
        let space = mem.borrow();
        let by_path = Region::builder().read_only(true).open(file.path()).expect("open");
        let by_fd = Region::from_fd(File::open(file.path()).expect("open")).expect("from_fd");
        for region in [by_path, by_fd] {
            assert!(region.is_read_only());
            let view = region.as_ptr().addr();
            let watched = [mem.arena(), view..view + region.len()];
            let no = ErrorKind::ReadOnly;
            let p = page();
            refuse("tie", &watched, &[&space], || space.tie(p, &region, .., Access::ReadWrite))
                .is(no)
                .range(p..5 * p)
                .met_nothing();
            refuse("write_at", &watched, &[&space], || region.write_at(1, &[1])).is(no);
            refuse("atomic_u8", &watched, &[&space], || region.atomic_u8(..).map(|_| ())).is(no);
            refuse("u32", &watched, &[&space], || u32_at(&region, 0)).is(no);
            refuse("u64", &watched, &[&space], || u64_at(&region, 0)).is(no);
            refuse("discard", &watched, &[&space], || region.discard(..p));

            // A tie that may be written cannot be moved to it either.
            let mut tie = space.tie(p, &common::region(4, 4), .., Access::ReadWrite).expect("tie");
            let before = Picture::take(&watched);
            let error = tie.retie(&region, 0).expect_err("read-write, of a read-only file");
            before.assert_same(&Picture::take(&watched), "retie");
            assert_eq!(error.kind(), no);
            tie.untie().expect("untie");
            for access in [Access::ReadOnly, Access::CopyOnWrite] {
                let tie = space.tie(p, &region, .., access).expect("reading is fine");
                assert_bytes(tie.as_ptr().addr(), &pattern(3, 4 * p), "the file's bytes");
                tie.untie().expect("untie");
            }
        }
        assert_eq!(fs::read(file.path()).expect("read the file"), pattern(3, 4 * page()));
    });
}

/// The kernel refuses the alias itself, when what lay there is aside already. It comes back, also
/// where it was to be thrown away.
#[test]
fn writing_to_a_region_that_was_sealed_later() {
    alone(|| {
        let p = page();
        let theirs = memfd(&pattern(3, 4 * p));
        let region = Region::from_fd(theirs.as_fd()).expect("from_fd");
        assert!(!region.is_read_only());
        // SAFETY: F_ADD_SEALS takes no pointer.
        let rc = unsafe {
            libc::fcntl(theirs.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE)
        };
        assert_eq!(rc, 0, "F_ADD_SEALS: {}", std::io::Error::last_os_error());
        for (what, mem, locked) in [
            ("plain", Memory::private(8), 0..0),
            ("all locked", Memory::private(8), 0..8),
            ("one page locked", Memory::private(8), 3..4),
            ("shared", Memory::shared(8), 0..0),
            ("image", Memory::image(&pattern(5, 8 * p)), 0..0),
            ("moved", Memory::moved(8), 0..0),
        ] {
            mem.fill(1);
            if let Err(error) = mlock(mem.pages(locked)) {
                return skip(format_args!("mlock: {error}"));
            }
            let space = mem.borrow();
            // The space finds out how zeros merge with its memory, and that they cannot.
            let discard = TieOptions::new(Access::ReadOnly).covered(Covered::Discard);
            space.tie(2 * p, &region, ..p, discard).expect("tie").untie().expect("untie");
            mem.fill(1);
            mprotect(mem.pages(4..6), libc::PROT_READ);
            for covered in [Covered::Keep, Covered::Discard] {
                let how = TieOptions::new(Access::ReadWrite).covered(covered);
                let what = format!("{what}, {covered:?}");
                refuse(&what, &[mem.arena()], &[&space], || space.tie(2 * p, &region, .., how))
                    .is(ErrorKind::ReadOnly)
                    .range(2 * p..6 * p)
                    .met_nothing();
            }
        }
    });
}

#[test]
fn writing_to_a_read_only_tie() {
    alone(|| {
        let scene = Scene::new(Access::ReadOnly);
        let p = page();
        for (what, pages) in [
            ("the tie", 4..8),
            ("inside", 5..6),
            ("its first page", 2..5),
            ("its last", 7..9),
            ("all", 0..16),
        ] {
            let range = pages.start * p..pages.end * p;
            scene
                .refuse(what, || scene.space.protect(range.clone(), Prot::ReadWrite))
                .is(ErrorKind::ReadOnly)
                .range(range.clone())
                .met(4 * p..8 * p);
            scene
                .refuse(what, || scene.space.discard(range.clone()))
                .is(ErrorKind::ReadOnly)
                .range(range)
                .met(4 * p..8 * p);
        }
        // Less than the tie has is granted, and back up to what it has.
        scene.space.protect(4 * p..8 * p, Prot::None).expect("close it");
        scene.space.protect(4 * p..8 * p, Prot::Read).expect("open it again");
        scene.region.discard(..p).expect("the host may");
        assert_zero(scene.mem.pages(4..5), "discarded by the host");
    });
}

#[test]
fn prefault_copy_of_what_is_not_copied() {
    alone(|| {
        let scene = Scene::new(Access::ReadWrite);
        for access in [Access::ReadOnly, Access::ReadWrite] {
            scene
                .refuse("prefault: Copy", || {
                    let how = TieOptions::new(access).prefault(Prefault::Copy);
                    scene.space.tie(10 * page(), &scene.region, ..page(), how)
                })
                .is(ErrorKind::Unsupported);
        }
    });
}

#[test]
fn discard_of_untied_shared_memory() {
    alone(|| {
        for mem in [Memory::shared(8), Memory::file(&pattern(1, 8 * page()))] {
            mem.fill(1);
            let space = mem.borrow();
            let p = page();
            refuse("shared", &[mem.arena()], &[&space], || space.discard(2 * p..4 * p))
                .is(ErrorKind::Unsupported);
            // Also where the pages before it could be discarded.
            let region = region(2, 2);
            let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
            refuse("partly", &[mem.arena()], &[&space], || space.discard(0..3 * p))
                .is(ErrorKind::Unsupported);
            space.discard(0..2 * p).expect("the tied pages alone");
            assert_zero(mem.pages(0..2), "discarded");
            tie.untie().expect("untie");
            assert_bytes(mem.start(), &pattern(1, mem.len()), "the shared bytes");
        }
    });
}

#[test]
fn discard_of_a_file() {
    alone(|| {
        let file = file(3, 4);
        let p = page();
        let mem = Memory::private(8);
        mem.fill(1);
        let space = mem.borrow();
        let region = Region::open(file.path()).expect("open");
        assert!(!region.is_read_only());
        let tie = space.tie(p, &region, .., Access::ReadWrite).expect("tie");
        let view = region.as_ptr().addr();
        let watched = [mem.arena(), view..view + region.len()];
        let refused = refuse("Region::discard", &watched, &[&space], || region.discard(..p));
        assert_eq!(refused.error.kind(), ErrorKind::Unsupported, "{}", refused.text);
        refuse("Space::discard", &watched, &[&space], || space.discard(p..2 * p))
            .is(ErrorKind::Unsupported);
        refuse("tied and untied", &watched, &[&space], || space.discard(0..2 * p))
            .is(ErrorKind::Unsupported);
        tie.untie().expect("untie");
        assert_eq!(fs::read(file.path()).expect("read"), pattern(3, 4 * p));

        // A private change of a copy-on-write tie is no hole in the file.
        let tie = space.tie(p, &region, .., Access::CopyOnWrite).expect("tie");
        poke(tie.as_ptr().addr(), 0);
        space.discard(p..2 * p).expect("reset a private page");
        assert_bytes(tie.as_ptr().addr(), &pattern(3, 4 * p), "the file again");
        tie.untie().expect("untie");

        let region = Region::builder().allow_discard(true).open(file.path()).expect("open");
        if let Err(error) = region.discard(p..2 * p) {
            return skip(format_args!("the file system punches no holes: {error}"));
        }
        let mut expected = pattern(3, 4 * p);
        expected[p..2 * p].fill(0);
        assert_eq!(fs::read(file.path()).expect("read"), expected);
    });
}

#[test]
fn growth() {
    alone(|| {
        let p = page();
        let region = Region::builder().max_len(8 * p).build(4 * p).expect("a region that grows");
        region.write_at(0, &pattern(1, 4 * p)).expect("fill");
        let view = region.as_ptr().addr();
        let watched = [view..view + 4 * p];
        let beyond = ErrorKind::OutOfRange;
        refuse("past max_len", &watched, &[], || region.grow(9 * p))
            .is(beyond)
            .says(&[9 * p, 8 * p]);
        refuse("backwards", &watched, &[], || region.grow(3 * p)).is(beyond).says(&[3 * p, 4 * p]);
        refuse("to nothing", &watched, &[], || region.grow(0));
        refuse("inside a page", &watched, &[], || region.grow(4 * p + 1))
            .is(ErrorKind::Misaligned)
            .nearest(4 * p, 5 * p);
        assert_eq!(region.len(), 4 * p);
        region.grow(8 * p).expect("to max_len");
        refuse("full", &watched, &[], || region.grow(9 * p)).is(beyond);

        let fixed = Region::new(4 * p).expect("a region");
        refuse("no max_len", &[], &[], || fixed.grow(5 * p)).is(beyond);
    });
}

#[test]
fn what_is_no_region() {
    alone(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let refused = refuse("missing", &[], &[], || Region::open(&missing)).is(ErrorKind::Os);
        assert_eq!(refused.error.raw_os_error(), Some(libc::ENOENT));
        let empty = dir.path().join("empty");
        File::create(&empty).expect("create");
        refuse("empty", &[], &[], || Region::open(&empty)).is(ErrorKind::Empty);
        refuse("directory", &[], &[], || Region::open(dir.path())).is(ErrorKind::Unsupported);
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        refuse("pipe", &[], &[], || Region::from_fd(reader.as_fd())).is(ErrorKind::Unsupported);
        refuse("device", &[], &[], || Region::open("/dev/zero")).is(ErrorKind::Unsupported);
    });
}

#[test]
fn several_things_wrong_at_once() {
    // Order: NULL, misaligned, empty, out of range, ended, read-only, overlap.
    alone(|| {
        let file = file(3, 4);
        let read_only = Region::builder().read_only(true).open(file.path()).expect("open");
        let mut scene = Scene::new(Access::ReadOnly);
        let p = page();
        let tie = |what: &str, at, region: &Region, range: Range<usize>| {
            scene.refuse(what, || scene.space.tie(at, region, range.clone(), Access::ReadWrite))
        };
        tie("misaligned, empty", 1, &read_only, p..p).is(ErrorKind::Misaligned);
        tie("misaligned, out of range", 99 * p + 1, &read_only, 0..p).is(ErrorKind::Misaligned);
        tie("misaligned, read-only, overlap", 4 * p + 1, &read_only, 0..p)
            .is(ErrorKind::Misaligned);
        tie("empty, out of range", 99 * p, &read_only, 9 * p..9 * p).is(ErrorKind::Empty);
        tie("empty, read-only, overlap", 4 * p, &read_only, 0..0).is(ErrorKind::Empty);
        tie("out of range, read-only", 99 * p, &read_only, 0..p).is(ErrorKind::OutOfRange);
        tie("out of range, overlap", 4 * p, &read_only, 3 * p..9 * p).is(ErrorKind::OutOfRange);
        tie("read-only, overlap", 4 * p, &read_only, 0..p)
            .is(ErrorKind::ReadOnly)
            .range(4 * p..5 * p)
            .met_nothing();
        let protect = |range: Range<usize>| {
            scene.refuse("protect", || scene.space.protect(range.clone(), Prot::ReadWrite))
        };
        protect(4 * p + 1..4 * p + 1).is(ErrorKind::Misaligned);
        protect(5 * p..5 * p).is(ErrorKind::Empty);
        protect(5 * p..17 * p).is(ErrorKind::OutOfRange);
        protect(5 * p..16 * p).is(ErrorKind::ReadOnly).range(5 * p..16 * p).met(4 * p..8 * p);

        // The kernel is asked before the list of live spaces.
        let bare = Memory::private(8);
        let first = bare.try_borrow(bare.pages(0..4)).expect("borrow");
        unmap(bare.pages(6..8));
        refuse("a hole, another space", &[bare.arena()], &[&first], || bare.try_borrow(bare.all()))
            .is(ErrorKind::NotMapped);
        drop(first);
        map(bare.pages(6..7).start, 2 * p, libc::PROT_NONE, PRIVATE, None);
        refuse("NULL, empty", &[], &[], || borrow(0, 0)).is(ErrorKind::NotMapped);

        // Ended comes after out of range and before read-only.
        scene.space.untie_all().expect("untie_all");
        assert!(!scene.tie.is_live());
        let region = scene.region.clone();
        for (region, offset, kind) in [
            (&region, 1, ErrorKind::Misaligned),
            (&region, 99 * p, ErrorKind::OutOfRange),
            (&region, 0, ErrorKind::Ended),
            (&read_only, 0, ErrorKind::Ended),
        ] {
            let before = Picture::take(&[scene.mem.arena()]);
            let error = scene.tie.retie(region, offset).expect_err("an ended tie");
            before.assert_same(&Picture::take(&[scene.mem.arena()]), "retie");
            assert_eq!(error.kind(), kind, "{error}");
        }
    });
}

// ------------------------------------------------------------------------------ tie_all

fn spec(at: usize, region: &Region, range: Range<usize>) -> TieSpec<'_> {
    TieSpec { at, region, range, options: Access::ReadWrite.into() }
}

#[test]
fn tie_all_names_the_item() {
    alone(|| {
        let file = file(3, 4);
        let read_only = Region::builder().read_only(true).open(file.path()).expect("open");
        let scene = Scene::new(Access::ReadWrite);
        let (p, region) = (page(), &scene.region);
        let fine = [spec(0, region, 0..p), spec(p, region, p..2 * p), spec(12 * p, region, 0..p)];
        let bad = [
            ("misaligned", spec(9 * p + 1, region, 0..p), ErrorKind::Misaligned),
            ("empty", spec(9 * p, region, p..p), ErrorKind::Empty),
            ("out of range", spec(9 * p, region, 7 * p..9 * p), ErrorKind::OutOfRange),
            ("past the space", spec(15 * p, region, 0..2 * p), ErrorKind::OutOfRange),
            ("read-only", spec(9 * p, &read_only, 0..p), ErrorKind::ReadOnly),
            ("a live tie", spec(7 * p, region, 0..2 * p), ErrorKind::Overlap),
            ("an item of the list", spec(0, region, 0..2 * p), ErrorKind::Overlap),
        ];
        for (what, item, kind) in bad {
            for place in 0..=fine.len() {
                let mut specs = fine.to_vec();
                specs.insert(place, item.clone());
                let refusal = scene.refuse(what, || scene.space.tie_all(&specs)).is(kind);
                if what == "an item of the list" {
                    // Of two items that meet, the later one is refused.
                    let index = refusal.error.index().expect("an index");
                    assert!(index >= place && index > 0, "{what} at {place}: {index}");
                } else {
                    refusal.index(place);
                }
            }
        }
        let ties = scene.space.tie_all(&fine).expect("the fine ones alone");
        assert_eq!(ties.len(), fine.len());
        // Any refusal but tie_all's has no index.
        assert_eq!(scene.refuse_tie("tie", p + 1, 0..p).error.index(), None);
    });
}

#[test]
fn tie_all_over_a_hole_changes_nothing() {
    alone(|| {
        let mem = Memory::private(8);
        mem.fill(1);
        let (p, region) = (page(), region(2, 8));
        let space = mem.borrow();
        unmap(mem.pages(5..6));
        for covered in [Covered::Keep, Covered::Discard] {
            let mut specs = [
                spec(0, &region, 0..2 * p),
                spec(3 * p, &region, 2 * p..3 * p),
                spec(5 * p, &region, 3 * p..4 * p),
            ];
            for item in &mut specs {
                item.options = TieOptions::new(Access::ReadWrite).covered(covered);
            }
            refuse("a hole", &[mem.arena()], &[&space], || space.tie_all(&specs))
                .is(ErrorKind::NotMapped)
                .index(2);
        }
        drop(space);
        map(mem.pages(5..6).start, p, libc::PROT_NONE, PRIVATE, None);
    });
}

/// The kernel is asked about every item before the first is laid: what an earlier one would have
/// thrown away for good is still there.
#[test]
fn tie_all_over_a_hole_in_the_last_discards_nothing() {
    alone(|| {
        let mem = Memory::private(8);
        let bytes = mem.fill(1);
        let (p, region) = (page(), region(2, 8));
        let space = mem.borrow();
        unmap(mem.pages(5..6));
        // The last of the list, and of the addresses; then listed first.
        for order in [[0, 1, 2], [2, 0, 1]] {
            let items = [
                (0, 0..2 * p, Covered::Discard),
                (3 * p, 2 * p..3 * p, Covered::Discard),
                (4 * p, 3 * p..5 * p, Covered::Keep),
            ];
            let specs = order.map(|i| {
                let (at, range, covered) = items[i].clone();
                let options = TieOptions::new(Access::ReadWrite).covered(covered);
                TieSpec { at, region: &region, range, options }
            });
            refuse("a hole", &[mem.arena()], &[&space], || space.tie_all(&specs))
                .is(ErrorKind::NotMapped)
                .index(order.iter().position(|&i| i == 2).expect("the item over the hole"))
                .range(4 * p..6 * p)
                .met(5 * p..6 * p);
            assert_bytes(mem.start(), &bytes[..5 * p], "what the others would have thrown away");
        }
        drop(space);
        map(mem.pages(5..6).start, p, libc::PROT_NONE, PRIVATE, None);
    });
}

#[test]
fn tie_all_of_items_that_meet() {
    alone(|| {
        let mem = Memory::private(16);
        mem.fill(1);
        let (p, region) = (page(), region(2, 8));
        let space = mem.borrow();
        let specs = [
            spec(8 * p, &region, 0..4 * p),
            spec(2 * p, &region, 0..p),
            spec(5 * p, &region, 0..4 * p),
        ];
        let refusal = refuse("one page", &[mem.arena()], &[&space], || space.tie_all(&specs));
        let refusal = refusal.is(ErrorKind::Overlap);
        let index = refusal.error.index().expect("an index");
        let (range, met) = (refusal.error.range(), refusal.error.other_range());
        // Whichever of the two is named, the other one is what it met.
        match index {
            2 => assert_eq!((range, met), (Some(5 * p..9 * p), Some(8 * p..12 * p))),
            0 => assert_eq!((range, met), (Some(8 * p..12 * p), Some(5 * p..9 * p))),
            _ => panic!("item {index} meets nothing: {}", refusal.text),
        }
        refusal.says(&[5 * p, 8 * p]);
        let none: [TieSpec<'_>; 0] = [];
        assert!(
            space.tie_all(&none).is_ok_and(|ties| ties.is_empty()),
            "an empty list asks nothing"
        );
    });
}

#[test]
fn tie_all_merges_neighbours() {
    alone(|| {
        let mem = Memory::private(16);
        let bytes = mem.fill(1);
        let (p, region) = (page(), region(2, 8));
        let space = mem.borrow();
        let before = Picture::take(&[mem.arena()]);
        // Neighbours in the region and in the space, listed in any order.
        let order = [2, 0, 3, 1];
        let specs = order.map(|i| spec((4 + i) * p, &region, i * p..(i + 1) * p));
        let ties = space.tie_all(&specs).expect("tie_all");
        assert_eq!(ties.len(), 4);
        for (tie, i) in ties.iter().zip(order) {
            assert_eq!((tie.at(), tie.offset(), tie.len()), ((4 + i) * p, i * p, p));
        }
        assert_bytes(mem.pages(4..8).start, &pattern(2, 4 * p), "tied");
        let found = space.inspect(4 * p..8 * p).expect("inspect");
        assert_eq!(found.len(), 1, "one mapping: {found:?}");

        // Each is a tie of its own: one after another brings back one page.
        let mut tied = [true; 4];
        for (tie, i) in ties.into_iter().zip(order) {
            tie.untie().expect("untie one");
            tied[i] = false;
            for (j, tied) in tied.iter().enumerate() {
                let expected = if *tied { pattern(2, 4 * p) } else { bytes[4 * p..8 * p].to_vec() };
                assert_bytes(
                    mem.pages(4 + j..5 + j).start,
                    &expected[j * p..(j + 1) * p],
                    "a page",
                );
            }
        }
        before.assert_same(&Picture::take(&[mem.arena()]), "all untied");
        assert!(space.ties().is_empty());
    });
}

#[test]
fn tie_all_merges_only_what_is_alike() {
    alone(|| {
        let mem = Memory::private(16);
        mem.fill(1);
        let (p, region) = (page(), region(2, 8));
        let space = mem.borrow();
        let before = Picture::take(&[mem.arena()]);
        let mut specs = [
            spec(0, &region, 0..p),
            // Beside it in the space, elsewhere in the region.
            spec(p, &region, 3 * p..4 * p),
            // Beside it in both, with another access.
            spec(2 * p, &region, 4 * p..5 * p),
            // Beside it in the region only.
            spec(8 * p, &region, 5 * p..6 * p),
        ];
        specs[2].options = TieOptions::new(Access::CopyOnWrite).covered(Covered::Discard);
        let ties = space.tie_all(&specs).expect("tie_all");
        let whole = pattern(2, 8 * p);
        for (tie, spec) in ties.iter().zip(&specs) {
            assert_bytes(mem.start() + spec.at, &whole[spec.range.clone()], "tied");
            assert_eq!(
                tie.access(),
                if spec.at == 2 * p { Access::CopyOnWrite } else { Access::ReadWrite }
            );
        }
        poke(mem.start() + 2 * p, 0xee);
        assert_eq!(region_bytes(&region), whole, "the copy-on-write item keeps its own writes");
        drop(ties);
        assert_zero(mem.pages(2..3), "covered: Discard");
        write(mem.start() + 2 * p, &pattern(1, 16 * p)[2 * p..3 * p]);
        before.assert_same(&Picture::take(&[mem.arena()]), "all untied");
    });
}

/// The text of an error never depends on who asks: `{}` of a boxed one is the same.
#[test]
fn text_through_a_trait_object() {
    let error = Region::new(0).expect_err("no length");
    let mut text = String::new();
    write!(text, "{}", &error as &dyn std::error::Error).expect("write to a string");
    assert_eq!(text, error.to_string());
    assert_eq!(error, Region::new(0).expect_err("no length"), "equal questions, equal answers");
}
