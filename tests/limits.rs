//! At the limits of the kernel: `vm.max_map_count` mappings, and `RLIMIT_AS` bytes of addresses.
//!
//! Each test runs in a process of its own and fills it with mappings until not one more can be
//! made, which a failing mmap shows. Up to there nothing may allocate large blocks; how many more
//! could be made then tells how many mappings the test and the crate have.

#![allow(unsafe_code, reason = "maps and unmaps by the ten thousand")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/filler.rs"]
mod filler;

use std::fs;
use std::ops::Range;

use common::{Memory, assert_bytes, mprotect, page, pattern, peek, poke};
use filler::{Filler, hex, lay_heap_aside, lines};
use libc::{PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{Access, Covered, ErrorKind, Prot, Region, Space, Tie, TieOptions, TieSpec};

// ------------------------------------------------------------------------------ the scenes

/// A space, and the tie that is made in it.
struct Scene {
    name: &'static str,
    // Declared before the memory, and so dropped before it.
    tie: Option<Tie>,
    space: Option<Space>,
    memory: Option<Memory>,
    region: Region,
    at: usize,
    how: TieOptions,
    /// What happens to the addresses while they are tied.
    meddle: fn(&Space, Range<usize>),
    /// Addresses of the whole space.
    range: Range<usize>,
}

/// Everything of a scene that a tie and its end may change: lines of the kernel, readable bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    lines: Vec<String>,
    bytes: Vec<(usize, u64)>,
}

impl Scene {
    fn reserved(name: &'static str, pages: usize, how: TieOptions) -> Self {
        let space = Space::reserve((pages + 4) * page()).unwrap();
        let start = space.as_ptr().expose_provenance();
        Self {
            name,
            tie: None,
            memory: None,
            region: common::region(1, pages),
            at: 2 * page(),
            how,
            meddle: |_, _| (),
            range: start..start + space.len(),
            space: Some(space),
        }
    }

    /// A tie over `pages` of `memory` from its third page on.
    fn borrowed(name: &'static str, memory: Memory, pages: usize, how: TieOptions) -> Self {
        Self {
            name,
            tie: None,
            space: Some(memory.borrow()),
            region: common::region(1, pages),
            at: 2 * page(),
            how,
            meddle: |_, _| (),
            range: memory.all(),
            memory: Some(memory),
        }
    }

    fn hidden(self) -> Self {
        let region = Region::builder().hide_from_fork(true).build(self.region.len()).unwrap();
        region.write_at(0, &pattern(1, region.len())).unwrap();
        Self { region, ..self }
    }

    fn meddled(self, meddle: fn(&Space, Range<usize>)) -> Self {
        Self { meddle, ..self }
    }

    fn space(&self) -> &Space {
        self.space.as_ref().expect("a space")
    }

    fn try_tie(&self) -> pagetie::Result<Tie> {
        self.space().tie(self.at, &self.region, .., self.how)
    }

    fn tie(&mut self) {
        let tie = self.try_tie().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let addr = tie.as_ptr().expose_provenance();
        assert_bytes(addr, &pattern(1, tie.len()), self.name);
        (self.meddle)(self.space(), addr..addr + tie.len());
        self.tie = Some(tie);
    }

    /// Ends the tie, or panics.
    fn untie(&mut self, end: End) {
        let name = self.name;
        let tie = self.tie.take().expect("a tie");
        match end {
            End::Untie => tie.untie().unwrap_or_else(|error| panic!("{name}: {error}")),
            End::Drop => drop(tie),
            End::UntieAll => {
                self.space().untie_all().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(!tie.is_live(), "{name}");
            }
            End::SpaceDrop => {
                drop(self.space.take());
                assert!(!tie.is_live(), "{name}");
            }
        }
        if let Some(space) = &self.space {
            assert!(space.ties().is_empty(), "{name}: {:?}", space.ties());
        }
    }

    /// What of the process the scene may change.
    fn view(&self) -> View {
        let lines = lines(std::slice::from_ref(&self.range));
        let mut bytes = Vec::new();
        for line in &lines {
            let (start, rest) = hex(line.as_bytes());
            let (end, rest) = hex(&rest[1..]);
            if rest[1] == b'r' {
                let range = start.max(self.range.start)..end.min(self.range.end);
                bytes.extend(range.step_by(page()).map(|addr| (addr, sum(addr))));
            }
        }
        View { lines, bytes }
    }
}

/// A sum of some of a page's bytes: its ends and places in between.
fn sum(addr: usize) -> u64 {
    let offsets = (0..page()).step_by(509).chain([1, page() - 1]);
    offsets
        .fold(7, |sum: u64, offset| sum.wrapping_mul(31).wrapping_add(peek(addr + offset).into()))
}

/// How a tie ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Untie,
    Drop,
    UntieAll,
    SpaceDrop,
}

/// One scene of each kind that unties in its own way.
fn scenes() -> Vec<Scene> {
    let keep = TieOptions::new(Access::ReadWrite);
    let discard = keep.covered(Covered::Discard);
    let filled = |memory: Memory| {
        memory.fill(2);
        memory
    };
    let anonymous = |pages| filled(Memory::private(pages));
    let striped = |pages: usize| {
        let memory = anonymous(pages);
        for i in (1..pages).step_by(2) {
            mprotect(memory.pages(i..i + 1), PROT_READ);
        }
        memory
    };
    let mixed = || {
        let memory = anonymous(12);
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let file = common::memfd(&pattern(5, 2 * page()));
        let rw = PROT_READ | PROT_WRITE;
        common::map(memory.pages(3..5).start, 2 * page(), rw, shared, None);
        common::map(memory.pages(6..8).start, 2 * page(), rw, libc::MAP_PRIVATE, Some(&file));
        common::map(memory.pages(8..9).start, page(), rw, libc::MAP_SHARED, Some(&file));
        poke(memory.pages(3..4).start, 3);
        poke(memory.pages(6..7).start, 4);
        memory
    };
    let image = || {
        let memory = Memory::image(&pattern(5, 8 * page()));
        poke(memory.pages(3..4).start, 9);
        memory
    };
    let locked = |pages: Range<usize>| {
        let memory = anonymous(8);
        common::mlock(memory.pages(pages)).expect("lock a few pages");
        memory
    };
    let large = || {
        let memory = Memory::private(2 * common::HUGE / page() + 4);
        for addr in memory.all().step_by(64 * page()) {
            poke(addr, 7);
        }
        memory
    };
    let huge = common::HUGE / page();
    vec![
        Scene::reserved("reserved", 4, keep),
        Scene::reserved("reserved, discarded", 4, discard),
        Scene::reserved("reserved, protected", 4, keep).meddled(|space, _| {
            space.protect(3 * page()..4 * page(), Prot::Read).unwrap();
        }),
        Scene::borrowed("anonymous", anonymous(8), 4, keep),
        Scene::borrowed("anonymous, discarded", anonymous(8), 4, discard),
        Scene::borrowed(
            "anonymous, discarded, accounted",
            filled(Memory::accounted(8)),
            4,
            discard,
        ),
        Scene::borrowed("read-only", anonymous(8), 4, TieOptions::new(Access::ReadOnly)),
        Scene::borrowed("copy-on-write", anonymous(8), 4, TieOptions::new(Access::CopyOnWrite))
            .meddled(|_, tied| poke(tied.start + page(), 1)),
        Scene::borrowed("concurrent", anonymous(8), 4, keep.concurrent(true)),
        Scene::borrowed("shared", filled(Memory::shared(8)), 4, keep),
        Scene::borrowed("image", image(), 4, keep),
        Scene::borrowed("several objects", mixed(), 8, keep),
        Scene::borrowed("several objects, discarded", anonymous(12), 8, discard),
        Scene::borrowed("24 mappings", striped(28), 24, keep),
        Scene::borrowed("locked", locked(0..8), 4, keep),
        Scene::borrowed("locked in part", locked(3..5), 4, keep),
        Scene::borrowed("protected while tied", anonymous(8), 4, keep).meddled(|space, _| {
            space.protect(3 * page()..4 * page(), Prot::None).unwrap();
            space.protect(4 * page()..5 * page(), Prot::Read).unwrap();
        }),
        Scene::borrowed("protected from outside", anonymous(8), 4, keep).meddled(|_, tied| {
            mprotect(tied.start + page()..tied.start + 2 * page(), PROT_READ);
            mprotect(tied.end - page()..tied.end, PROT_NONE);
        }),
        Scene::borrowed("40 protections", anonymous(44), 40, keep).meddled(|space, _| {
            for i in (2..42).step_by(2) {
                space.protect(i * page()..(i + 1) * page(), Prot::Read).unwrap();
            }
        }),
        Scene::borrowed("opened from outside", anonymous(8), 4, TieOptions::new(Access::ReadOnly))
            .meddled(|_, tied| mprotect(tied, PROT_READ | PROT_WRITE)),
        Scene::borrowed("large", large(), 2 * huge, keep),
        Scene::borrowed("large, discarded", large(), 2 * huge, discard),
        Scene::borrowed("hidden", anonymous(8), 4, keep).hidden(),
    ]
}

/// Room for mappings below the limit in which scenes are made.
const ROOM: usize = 1200;

/// Starts the test in a process with a full list of mappings, and checks that it leaves none.
fn at_the_limit(body: fn(&mut Filler)) {
    // Once before anything is counted: what the crate makes for good is there afterwards.
    let mut scene = Scene::borrowed("first", Memory::private(8), 4, Access::ReadWrite.into());
    scene.tie();
    scene.untie(End::Untie);
    drop(scene);
    let Some(mut filler) = Filler::new(ROOM) else {
        return;
    };
    filler.fill();
    filler.free(ROOM / 2);
    let others = filler.others();
    body(&mut filler);
    assert_eq!(filler.others(), others, "mappings besides the filler");
    // With the last space gone the crate holds nothing that it did not hold at the start.
    assert_eq!(filler.clear(), 0, "mappings that are left");
}

/// A space that lives as long as the others of a test do: so the ballast of the crate, the spare
/// mappings that it keeps while there is a space, is there all the while.
struct Anchor {
    space: Space,
    region: Region,
}

impl Anchor {
    fn new() -> Self {
        Self { space: Space::reserve(page()).unwrap(), region: common::region(1, 1) }
    }

    /// Compares the number of mappings besides the filler.
    ///
    /// One may be missing, of the ballast: mmap fills a process up to one mapping more than splits
    /// do, so ballast that was thrown off there can be laid again but for the last. The next tie
    /// that has the room lays it whole; then the number is to be exactly what it was.
    #[track_caller]
    fn assert_count(&self, filler: &mut Filler, before: usize, what: String) {
        const ENOUGH: usize = 8;
        let now = filler.others();
        if now == before {
            return;
        }
        assert_eq!(now, before - 1, "mappings {what}");
        let room = filler.fill();
        filler.free(ENOUGH);
        self.space.tie(0, &self.region, .., Access::ReadWrite).unwrap().untie().unwrap();
        assert_eq!(filler.others(), before, "mappings {what}, and after another tie");
        filler.fill();
        filler.free(room);
    }
}

fn every_tie_ends(filler: &mut Filler) {
    let anchor = Anchor::new();
    for end in [End::Untie, End::Drop, End::UntieAll, End::SpaceDrop] {
        let empty = filler.others();
        let mut scenes = scenes();
        // Far from the limit first: what the end of this tie leaves there, it leaves at the limit.
        let mut views = Vec::new();
        for scene in &mut scenes {
            scene.tie();
            scene.untie(End::Untie);
            views.push(scene.view());
        }
        let untied = filler.others();
        // Of the whole process: told only while no scene is tied.
        let locked = common::locked();
        scenes.iter_mut().for_each(Scene::tie);
        filler.fill();
        filler.assert_full();
        for (scene, before) in scenes.iter_mut().zip(&views) {
            // Whatever the last end freed is taken: each tie ends where nothing can be mapped.
            filler.fill();
            scene.untie(end);
            let after = scene.view();
            if end == End::SpaceDrop && scene.memory.is_none() {
                assert!(after.lines.is_empty(), "{}: {:?}", scene.name, after.lines);
            } else {
                assert_eq!(*before, after, "{}, {end:?}", scene.name);
            }
        }
        assert_eq!(common::locked(), locked, "locked bytes after {end:?}");
        if end != End::SpaceDrop {
            anchor.assert_count(filler, untied, format!("after {end:?}"));
        }
        drop(scenes);
        filler.fill();
        filler.free(ROOM / 2);
        anchor.assert_count(filler, empty, format!("after the scenes of {end:?}"));
    }
}

#[test]
fn every_tie_ends_at_the_very_limit() {
    child::lives("every tie", || at_the_limit(every_tie_ends));
}

/// The text names how many mappings there are and how many there may be.
fn assert_limit(error: &pagetie::Error, filler: &mut Filler, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Limit, "{what}: {error}");
    let text = error.to_string();
    let mut numbers: Vec<usize> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.parse().ok())
        .collect();
    let limit = numbers.iter().position(|&n| n == filler.limit);
    numbers.remove(limit.unwrap_or_else(|| panic!("{what}: no limit in \"{text}\"")));
    let room = filler.fill();
    filler.free(room);
    let count = filler.limit + 1 - room;
    let near = |&n: &usize| n.abs_diff(count) <= 64;
    assert!(numbers.iter().any(near), "{what}: no count near {count} in \"{text}\"");
}

fn a_tie_that_meets_the_limit(filler: &mut Filler) {
    let anchor = Anchor::new();
    // An older tie, which must stay as it is all the while.
    let mut older = Scene::borrowed("older", Memory::private(8), 4, Access::ReadWrite.into());
    older.tie();
    for mut scene in scenes() {
        // What the meddling leaves of protections is there from the start.
        scene.tie();
        scene.untie(End::Untie);
        let name = scene.name;
        let before = scene.view();
        let (count, locked) = (filler.others(), common::locked());
        let several = before.lines.len() > 4 && !name.contains("40");
        let rooms: &[usize] = if several { &[0, 1, 3, 5, 8, 13, 26, 80] } else { &[0, 2, 6, 80] };
        for &room in rooms {
            filler.fill();
            filler.free(room);
            match scene.try_tie() {
                Ok(tie) => {
                    assert_ne!(room, 0, "{name}: a tie was made without a mapping");
                    tie.untie().unwrap_or_else(|error| panic!("{name}, room for {room}: {error}"));
                }
                Err(error) => {
                    assert_ne!(room, 80, "{name}, room for {room}: {error}");
                    assert_limit(&error, filler, name);
                }
            }
            assert!(scene.space().ties().is_empty(), "{name}, room for {room}");
            assert_eq!(scene.view(), before, "{name}, room for {room}");
            assert_eq!(common::locked(), locked, "{name}, room for {room}: locked bytes");
            anchor.assert_count(filler, count, format!("{name}, room for {room}"));
        }
        // Room again for what the next scene begins with.
        filler.free(ROOM / 2 - 80);
    }
    assert!(older.tie.as_ref().is_some_and(Tie::is_live));
    filler.fill();
    older.untie(End::Untie);
    drop(older);
    filler.fill();
    filler.free(ROOM / 2);
}

#[test]
fn a_tie_that_meets_the_limit_changes_nothing() {
    child::lives("refused", || at_the_limit(a_tie_that_meets_the_limit));
}

/// The other verbs, where not one mapping can be made or only a few.
fn other_verbs(filler: &mut Filler) {
    let anchor = Anchor::new();
    let region = common::region(1, 8);
    let memory = Memory::private(64);
    memory.fill(2);
    let space = memory.borrow();
    let reserved = Space::reserve(64 * page()).unwrap();
    for space in [&space, &reserved] {
        let start = space.as_ptr().expose_provenance();
        let range = start..start + space.len();
        let (count, before) = (filler.others(), lines(std::slice::from_ref(&range)));
        let assert_same = |filler: &mut Filler, what: String| {
            assert_eq!(lines(std::slice::from_ref(&range)), before, "{what}");
            anchor.assert_count(filler, count, what);
        };

        // Three ties, or none.
        let spec = |at: usize| TieSpec {
            at: at * page(),
            region: &region,
            range: 0..2 * page(),
            options: Access::ReadWrite.into(),
        };
        let specs = [spec(4), spec(10), spec(20)];
        let mut refused = 0;
        for room in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 80] {
            filler.fill();
            filler.free(room);
            match space.tie_all(&specs) {
                Ok(ties) => {
                    assert_eq!(ties.len(), 3);
                    ties.into_iter().for_each(|tie| tie.untie().unwrap());
                }
                Err(error) => {
                    assert_limit(&error, filler, "tie_all");
                    assert_ne!(room, 80, "{error}");
                    refused += 1;
                }
            }
            assert!(space.ties().is_empty());
            assert_same(filler, format!("tie_all with room for {room}"));
        }
        assert!(refused > 0);

        // Replaced, or as before; and untied in any case.
        let mut tie = space.tie(4 * page(), &region, ..2 * page(), Access::ReadWrite).unwrap();
        filler.fill();
        filler.assert_full();
        let shown = match tie.retie(&region, 4 * page()) {
            Ok(()) => 4 * page(),
            Err(error) => {
                assert_limit(&error, filler, "retie");
                0
            }
        };
        assert!(tie.is_live());
        assert_eq!(tie.offset(), shown);
        let bytes = &pattern(1, 8 * page())[shown..shown + tie.len()];
        assert_bytes(tie.as_ptr().addr(), bytes, "after retie at the limit");
        tie.untie().unwrap();
        assert_same(filler, "untied".to_owned());

        // A page in the middle of a mapping would be a mapping of its own.
        filler.fill();
        filler.assert_full();
        let error = space.protect(30 * page()..31 * page(), Prot::Read).expect_err("protect");
        assert_limit(&error, filler, "protect");
        assert_same(filler, "protect at the limit".to_owned());
        filler.free(ROOM / 2);
    }
    // New things are refused, and leave nothing behind.
    filler.fill();
    let descriptors = common::descriptors();
    let before = filler.others();
    let error = Space::reserve(16 * page()).expect_err("a reservation");
    assert_limit(&error, filler, "reserve");
    let error = Region::new(16 * page()).expect_err("a host view");
    assert_limit(&error, filler, "Region::new");
    anchor.assert_count(filler, before, "of what was not made".to_owned());
    assert_eq!(common::descriptors(), descriptors);
    filler.free(ROOM / 2);
}

#[test]
fn the_other_verbs_at_the_limit_change_nothing_or_all() {
    child::lives("other verbs", || at_the_limit(other_verbs));
}

/// Makes a call, which undoes itself, with room for 0 to 10 mappings: granted or refused, it leaves
/// nothing behind.
fn with_little_room(
    filler: &mut Filler,
    scene: &Scene,
    call: impl Fn(&Scene) -> pagetie::Result<()>,
) {
    let anchor = Anchor::new();
    let name = scene.name;
    let before = scene.view();
    let (count, locked) = (filler.others(), common::locked());
    let (mut granted, mut refused) = (0, 0);
    for room in 0..=10 {
        filler.fill();
        filler.free(room);
        let done = call(scene);
        let what = format!("{name}, room for {room}: {done:?}");
        match done {
            Ok(()) => granted += 1,
            Err(error) => {
                assert_limit(&error, filler, &what);
                refused += 1;
            }
        }
        assert_eq!(scene.view(), before, "{what}");
        assert_eq!(common::locked(), locked, "{what}: locked bytes");
        anchor.assert_count(filler, count, what);
    }
    assert!(refused > 0 && granted > 0, "{name}: {granted} granted, {refused} refused");
    filler.free(ROOM / 4);
}

/// Calls that split a mapping first and may be refused then: registering pages with a userfaultfd,
/// unlocking and protecting them.
fn no_split_is_left(filler: &mut Filler) {
    let keep = TieOptions::new(Access::ReadWrite);
    let filled = |locked: Range<usize>| {
        let memory = Memory::private(8);
        memory.fill(2);
        common::mlock(memory.pages(locked)).expect("lock a few pages");
        memory
    };
    for scene in [
        Scene::borrowed("concurrent", filled(0..0), 4, keep.concurrent(true)),
        Scene::borrowed("locked", filled(0..8), 4, keep),
        Scene::borrowed("locked in part", filled(3..5), 4, keep),
        Scene::borrowed("locked, concurrent", filled(0..8), 4, keep.concurrent(true)),
    ] {
        with_little_room(filler, &scene, |scene| Ok(scene.try_tie()?.untie()?));
    }
    // Two mappings, of which the second may fail when the first is done.
    let memory = filled(0..0);
    mprotect(memory.pages(4..8), PROT_READ);
    let scene = Scene::borrowed("protect", memory, 4, keep);
    for pages in [1..2, 2..6, 1..8] {
        with_little_room(filler, &scene, |scene| {
            let space = scene.space();
            let bytes = |pages: Range<usize>| pages.start * page()..pages.end * page();
            space.protect(bytes(pages.clone()), Prot::None)?;
            // And back as it was: each step merges, and needs no room.
            if pages.end > 4 {
                space.protect(bytes(4..pages.end), Prot::Read).unwrap();
            }
            space.protect(bytes(pages.start..pages.end.min(4)), Prot::ReadWrite).unwrap();
            Ok(())
        });
    }
}

#[test]
fn what_is_refused_leaves_no_split_mapping() {
    child::lives("splits", || at_the_limit(no_split_is_left));
}

/// The first space of a process lays the ballast: refused with room for all but a part of it, too.
fn the_first_space(filler: &mut Filler) {
    let memory = Memory::private(8);
    let others = filler.others();
    for borrowed in [false, true] {
        let (mut made, mut refused) = (0, 0);
        for room in 0..=24 {
            filler.fill();
            filler.free(room);
            let space = match borrowed {
                true => memory.try_borrow(memory.all()),
                false => Space::reserve(8 * page()),
            };
            match space {
                Ok(space) => {
                    drop(space);
                    made += 1;
                }
                Err(error) => {
                    assert_limit(&error, filler, &format!("room for {room}"));
                    refused += 1;
                }
            }
            assert_eq!(filler.others(), others, "borrowed: {borrowed}, room for {room}");
        }
        assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
    }
    filler.free(ROOM / 4);
}

#[test]
fn the_first_space_is_made_or_refused_for_the_limit() {
    child::lives("the first space", || at_the_limit(the_first_space));
}

// ------------------------------------------------------------------------------ addresses

/// Bytes of addresses that the process uses now.
fn used() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages = text.split(' ').next().expect("a first number");
    pages.parse::<usize>().expect("a number") * page()
}

/// Runs `body` with no more than `room` bytes of addresses beyond those in use.
fn with_room<T>(room: usize, body: impl FnOnce() -> T) -> T {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) }, 0);
    let low = libc::rlimit { rlim_cur: (used() + room) as libc::rlim_t, ..limit };
    // SAFETY: the limits are read only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &low) }, 0);
    let result = body();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    result
}

/// Out of addresses is not out of mappings: the kernel has one error number for both.
#[test]
fn exhausted_addresses_are_no_memory() {
    child::lives("addresses", || {
        lay_heap_aside();
        const LARGE: usize = 32 << 20;
        let pages = LARGE / page();
        let region = Region::new(LARGE).unwrap();
        region.write_at(0, b"region").unwrap();
        let anonymous = Memory::private(pages);
        // Two mappings: one fits where both do not.
        let halves = Memory::private(pages);
        mprotect(halves.pages(pages / 2..pages), PROT_READ);
        for memory in [&anonymous, &halves] {
            poke(memory.start(), 5);
            poke(memory.start() + LARGE / 2 - 1, 6);
        }
        let arenas = [anonymous.all(), halves.all()];
        let descriptors = common::descriptors();

        let errors = [
            with_room(1 << 20, || Space::reserve(LARGE).err()),
            with_room(1 << 20, || Region::new(LARGE).err()),
        ];
        for error in errors {
            let error = error.expect("there is room for a MiB only");
            assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
        }
        assert_eq!(common::descriptors(), descriptors);

        for memory in [&anonymous, &halves] {
            let space = memory.borrow();
            let before = common::Picture::take(&arenas);
            for room in [0, LARGE / 2 + (1 << 20)] {
                let tied = with_room(room, || space.tie(0, &region, .., Access::ReadWrite));
                let error = tied.expect_err("covered pages have nowhere to go");
                assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
                let after = common::Picture::take(&arenas);
                before.assert_same(&after, format!("a tie with room for {room:#x} bytes"));
                assert!(space.ties().is_empty());
            }
        }

        // What was tied before there was no room goes back without any.
        for how in [
            TieOptions::new(Access::ReadWrite),
            TieOptions::new(Access::CopyOnWrite),
            TieOptions::new(Access::ReadWrite).covered(Covered::Discard),
        ] {
            for memory in [&anonymous, &halves] {
                let space = memory.borrow();
                let tie = space.tie(0, &region, .., how).unwrap();
                assert_eq!(peek(memory.start()), b'r');
                with_room(0, || tie.untie()).unwrap();
                assert!(space.ties().is_empty());
            }
        }
        assert_eq!(peek(anonymous.start()), 0);
        common::assert_zero(anonymous.pages(0..2), "discarded, and so zeros");
    });
}
