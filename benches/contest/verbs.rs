//! The verbs over a borrowed memory of private pages, against the system calls they cannot do
//! without, at the same addresses.

use super::scan::BAREST;
use super::{Contender, Contest, Goal, Question, numbered_region, page_number};
use crate::bare::{Faults, Maps, Memory, Place, punch};
use pagetie::{
    Access, Covered, Parked, Prefault, Prot, Region, Space, Tie, TieOptions, Window, page,
};
use std::{ffi::c_void, hint::black_box, ops::Range, os::fd::BorrowedFd, rc::Rc};

/// One page and 64 KiB, which is one page of WebAssembly.
fn sizes() -> Vec<usize> {
    let mut sizes = vec![page::size(), 64 << 10];
    sizes.dedup();
    sizes
}

/// Where everything happens: `len` bytes in the middle of a memory, and pages to show there.
struct Scene {
    // Before the memory it borrows, so that it is dropped first.
    space: Space,
    at: usize,
    len: usize,
    place: Place,
    memory: Memory,
    region: Region,
    /// Over the place all the time, if any.
    tie: Option<Tie>,
}

/// What every page of the memory holds before anything is tied.
const COVERED: u64 = u64::MAX;

impl Scene {
    fn new(len: usize) -> Rc<Self> {
        Rc::new(Self::untied(len))
    }

    /// With the region tied over the place, as long as the scene is there.
    fn tied(len: usize) -> Rc<Self> {
        let mut scene = Self::untied(len);
        scene.tie = Some(scene.tie_at(scene.at, BAREST));
        assert_eq!(scene.seen(), scene.numbers(OFFSET));
        Rc::new(scene)
    }

    fn untied(len: usize) -> Self {
        let memory = Memory::new(16 << 20);
        let at = memory.len() / 2;
        // SAFETY: the memory is ours alone, plain data that nobody refers to, and it is dropped
        // after the space.
        let space = unsafe { Space::borrow(memory.as_ptr(), memory.len()) }.expect("borrow");
        // SAFETY: the scene keeps both; nobody refers to the bytes.
        let place = unsafe { Place::new(&memory, at, len) };
        let (region, _) = numbered_region(4 << 20);
        let scene = Self { space, at, len, place, memory, region, tie: None };
        scene.touch();
        scene
    }

    fn tie_at(&self, at: usize, how: TieOptions) -> Tie {
        self.space.tie(at, &self.region, OFFSET..OFFSET + self.len, how).expect("tie")
    }

    /// Writes to every page of the range and to its neighbours.
    fn touch(&self) {
        let page = page::size();
        self.write(self.at - page..self.at + self.len + page, COVERED);
    }

    /// Writes to every page of a range.
    fn write(&self, range: Range<usize>, word: u64) {
        assert!(range.end <= self.memory.len());
        for at in range.step_by(page::size()) {
            // SAFETY: in bounds of the memory, aligned, writable all over.
            unsafe { self.memory.as_ptr().add(at).cast::<u64>().write_volatile(word) };
        }
    }

    fn range(&self) -> Range<usize> {
        self.at..self.at + self.len
    }

    /// Loads from every page of the range.
    fn read(&self) {
        for at in (self.at..self.at + self.len).step_by(page::size()) {
            // SAFETY: in bounds of the memory, which is readable all over.
            unsafe { page_number(self.memory.as_ptr().add(at)) };
        }
    }

    /// The first words of the range's pages.
    fn seen(&self) -> Vec<u64> {
        self.words(self.range())
    }

    /// The first words of the pages of any range.
    fn words(&self, range: Range<usize>) -> Vec<u64> {
        assert!(range.end <= self.memory.len());
        let pages = range.step_by(page::size());
        // SAFETY: in bounds of the memory, which is readable all over.
        pages.map(|at| unsafe { page_number(self.memory.as_ptr().add(at)) }).collect()
    }

    /// What `seen` gives where the region's pages from `offset` on are shown.
    fn numbers(&self, offset: usize) -> Vec<u64> {
        let first = offset / page::size();
        (first..first + self.len / page::size()).map(|n| n as u64).collect()
    }

    fn of(&self, word: u64) -> Vec<u64> {
        vec![word; self.len / page::size()]
    }

    fn object(&self) -> BorrowedFd<'_> {
        self.region.fd().expect("a region of ours has a descriptor")
    }
}

/// Which pages are shown: not the first, so that a wrong offset is noticed.
const OFFSET: usize = 1 << 20;

/// tie + untie, covered: Discard, of pages nobody touches: the calls and nothing else.
fn discard(len: usize) -> Contest {
    thrown_away::<false>(len)
}

/// The same with a load from every page in between, which is what ties are for.
fn discard_read(len: usize) -> Contest {
    thrown_away::<true>(len)
}

fn thrown_away<const READ: bool>(len: usize) -> Contest {
    let scene = Scene::new(len);
    let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);

    let tie = scene.space.tie(scene.at, &scene.region, OFFSET..OFFSET + len, how).expect("tie");
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    tie.untie().expect("untie");
    assert_eq!(scene.seen(), scene.of(0));
    scene.place.alias(scene.object(), OFFSET);
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    scene.place.zeros();
    assert_eq!(scene.seen(), scene.of(0));
    // Reading faulted zero pages in. From here on nobody touches them.
    scene.place.zeros();

    let read = |scene: &Scene| {
        if READ {
            scene.read();
        }
    };
    let s = Rc::clone(&scene);
    let ours = Contender::new("pagetie", move || {
        let tie = s.space.tie(s.at, &s.region, OFFSET..OFFSET + s.len, how).expect("tie");
        read(&s);
        tie.untie().expect("untie");
    });
    let s = Rc::clone(&scene);
    let two = Contender::new("two mmap", move || {
        s.place.alias(s.object(), OFFSET);
        read(&s);
        s.place.zeros();
    });
    let goal = |goal| if READ { Goal::None } else { goal };
    let mut others = vec![(two, goal(Goal::Time(1.35)))];
    if !READ {
        let s = Rc::clone(&scene);
        let inlined = Contender::new("two mmap, inlined", move || {
            s.place.alias_inlined(s.object(), OFFSET);
            s.place.zeros_inlined();
        });
        others.push((inlined, Goal::None));
    }
    if let Some(maps) = Maps::open().map(Rc::new) {
        let (s, m) = (Rc::clone(&scene), Rc::clone(&maps));
        let asked = Contender::new("two mmap, one query", move || {
            s.place.alias(s.object(), OFFSET);
            read(&s);
            assert!(m.ask(s.place));
            s.place.zeros();
        });
        others.push((asked, goal(Goal::Time(1.15))));
        if !READ {
            let same = "all calls that pagetie makes: query, msync, mmap, query, mmap";
            let same = Contender::new(same, move || {
                assert!(maps.ask(scene.place));
                scene.place.probe();
                scene.place.alias(scene.object(), OFFSET);
                assert!(maps.ask(scene.place));
                scene.place.zeros();
            });
            others.push((same, Goal::None));
        }
    }
    Contest { ours, others }
}

/// tie + untie, covered: Keep, over pages that were written to.
fn keep(len: usize) -> Contest {
    kept(len, false)
}

/// The same while other threads may use the covered range.
fn keep_concurrent(len: usize) -> Contest {
    kept(len, true)
}

fn kept(len: usize, concurrent: bool) -> Contest {
    let scene = Scene::new(len);
    let how = TieOptions::new(Access::ReadWrite).concurrent(concurrent);

    let tie = scene.space.tie(scene.at, &scene.region, OFFSET..OFFSET + len, how).expect("tie");
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    tie.untie().expect("untie");
    assert_eq!(scene.seen(), scene.of(COVERED));
    let aside = scene.place.aside();
    scene.place.alias(scene.object(), OFFSET);
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    // SAFETY: what `aside` gave, used once.
    unsafe { scene.place.back(aside) };
    assert_eq!(scene.seen(), scene.of(COVERED));

    let s = Rc::clone(&scene);
    let ours = Contender::new("pagetie", move || {
        let tie = s.space.tie(s.at, &s.region, OFFSET..OFFSET + s.len, how).expect("tie");
        tie.untie().expect("untie");
    });
    let s = Rc::clone(&scene);
    let three = Contender::new("mremap, mmap, mremap", move || {
        let aside = s.place.aside();
        s.place.alias(s.object(), OFFSET);
        // SAFETY: what `aside` gave, used once.
        unsafe { s.place.back(aside) };
    });
    let mut others = vec![(three, Goal::Time(if concurrent { 1.4 } else { 1.25 }))];
    if concurrent {
        if let Some(faults) = Faults::open() {
            let held = Contender::new("the same three, and register, wake", move || {
                faults.hold(scene.place);
                let aside = scene.place.aside();
                scene.place.alias(scene.object(), OFFSET);
                faults.wake(scene.place);
                // SAFETY: what `aside` gave, used once.
                unsafe { scene.place.back(aside) };
            });
            others.push((held, Goal::None));
        }
    } else if let Some(maps) = Maps::open() {
        let asked = Contender::new(
            "all calls that pagetie makes: query, msync, the three, query",
            move || {
                assert!(maps.ask(scene.place));
                scene.place.probe();
                let aside = scene.place.aside();
                scene.place.alias(scene.object(), OFFSET);
                assert!(maps.ask(scene.place));
                // SAFETY: what `aside` gave, used once.
                unsafe { scene.place.back(aside) };
            },
        );
        others.push((asked, Goal::None));
    }
    Contest { ours, others }
}

/// retie, to and fro between two places of the region, over pages nobody touches.
fn retie(len: usize) -> Contest {
    let scene = Scene::new(len);
    let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);

    let mut tie = scene.space.tie(scene.at, &scene.region, ..len, how).expect("tie");
    tie.retie(&scene.region, OFFSET).expect("retie");
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    tie.retie(&scene.region, 2 * OFFSET).expect("retie");
    assert_eq!(scene.seen(), scene.numbers(2 * OFFSET));
    tie.untie().expect("untie");
    scene.place.alias(scene.object(), OFFSET);
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    scene.place.zeros();

    let (s, t) = (Rc::clone(&scene), Rc::clone(&scene));
    let ours = Contender::within(
        "pagetie",
        move || s.space.tie(s.at, &s.region, OFFSET..OFFSET + s.len, how).expect("tie"),
        move |tie| tie.retie(&t.region, next(tie.offset())).expect("retie"),
        |tie| tie.untie().expect("untie"),
    );
    let mut others = vec![
        (
            alternating("one mmap", &scene, |s, offset| s.place.alias(s.object(), offset)),
            Goal::Time(1.5),
        ),
        (
            alternating("one mmap, inlined", &scene, |s, offset| {
                s.place.alias_inlined(s.object(), offset)
            }),
            Goal::None,
        ),
    ];
    others.extend(query_and_mmap(&scene).map(|asked| (asked, Goal::None)));
    Contest { ours, others }
}

/// Where the next retie goes.
fn next(offset: usize) -> usize {
    if offset == OFFSET { 2 * OFFSET } else { OFFSET }
}

/// What `retie` and `Window::show` come down to; `None` where the kernel has no such query.
fn query_and_mmap(scene: &Rc<Scene>) -> Option<Contender> {
    let maps = Maps::open()?;
    Some(alternating("all calls that pagetie makes: query, mmap", scene, move |s, offset| {
        assert!(maps.ask(s.place));
        s.place.alias(s.object(), offset);
    }))
}

/// Starts and ends as pagetie's contender does, with `each` in between.
fn alternating(
    name: &'static str,
    scene: &Rc<Scene>,
    each: impl Fn(&Scene, usize) + 'static,
) -> Contender {
    let (s, t, u) = (Rc::clone(scene), Rc::clone(scene), Rc::clone(scene));
    let before = move || {
        s.place.alias(s.object(), OFFSET);
        OFFSET
    };
    let each = move |offset: &mut usize| {
        *offset = next(*offset);
        each(&t, *offset);
    };
    Contender::within(name, before, each, move |_| u.place.zeros())
}

/// A contender that leaves everything as it found it.
fn plain(name: &'static str, scene: &Rc<Scene>, each: impl Fn(&Scene) + 'static) -> Contender {
    let s = Rc::clone(scene);
    Contender::new(name, move || each(&s))
}

/// protect, to read-only and back, of a tie whose pages nobody touches meanwhile.
fn protect(len: usize) -> Contest {
    let scene = Scene::tied(len);
    let allowed = |s: &Scene| {
        let mappings = s.space.inspect(s.range()).expect("inspect");
        mappings.iter().map(|mapping| mapping.prot).collect::<Vec<_>>()
    };
    let ours = |s: &Scene, prot| s.space.protect(s.range(), prot).expect("protect");
    let bare = |s: &Scene, prot| s.place.protect(prot == Prot::ReadWrite);
    for prot in [Prot::Read, Prot::ReadWrite] {
        ours(&scene, prot);
        assert_eq!(allowed(&scene), [prot]);
    }
    for prot in [Prot::Read, Prot::ReadWrite] {
        bare(&scene, prot);
        assert_eq!(allowed(&scene), [prot]);
    }
    let to_and_fro = |s: &Scene, each: &dyn Fn(&Scene, Prot)| {
        each(s, Prot::Read);
        each(s, Prot::ReadWrite);
    };
    let two = plain("two mprotect", &scene, move |s| to_and_fro(s, &bare));
    let mut others = vec![(two, Goal::None)];
    if let Some(maps) = Maps::open() {
        let asked = move |s: &Scene, prot| {
            assert!(maps.ask(s.place));
            bare(s, prot);
        };
        let name = "all calls that pagetie makes: query, mprotect, twice";
        others.push((plain(name, &scene, move |s| to_and_fro(s, &asked)), Goal::None));
    }
    Contest { ours: plain("pagetie", &scene, move |s| to_and_fro(s, &ours)), others }
}

/// Something thrown away that was written by `before`, after which `left` is there.
struct ThrowAway<B, L> {
    scene: Rc<Scene>,
    before: B,
    left: L,
}

impl<B: Fn(&Scene) + Copy + 'static, L: Fn(&Scene)> ThrowAway<B, L> {
    fn contender(&self, name: &'static str, each: impl Fn(&Scene) + 'static) -> Contender {
        let before = self.before;
        before(&self.scene);
        each(&self.scene);
        (self.left)(&self.scene);
        let (s, t) = (Rc::clone(&self.scene), Rc::clone(&self.scene));
        Contender::staged(name, move || before(&s), move |()| each(&t), |()| ())
    }
}

/// discard of pages that were written to.
fn discard_untied(len: usize) -> Contest {
    let throw = ThrowAway {
        scene: Scene::new(len),
        before: |s: &Scene| s.write(s.range(), COVERED),
        left: |s: &Scene| assert_eq!(s.seen(), s.of(0)),
    };
    let ours = |s: &Scene| s.space.discard(s.range()).expect("discard");
    let mut others = vec![(throw.contender("one madvise", |s| s.place.forget()), Goal::None)];
    if let Some(maps) = Maps::open() {
        let asked = throw.contender("all calls that pagetie makes: query, madvise", move |s| {
            assert!(maps.ask(s.place));
            s.place.forget();
        });
        others.push((asked, Goal::None));
    }
    Contest { ours: throw.contender("pagetie", ours), others }
}

/// The same of a read-write tie: the region's bytes go.
fn discard_tied(len: usize) -> Contest {
    let throw = ThrowAway {
        scene: Scene::tied(len),
        before: |s: &Scene| s.write(s.range(), COVERED),
        left: |s: &Scene| assert_eq!(s.seen(), s.of(0)),
    };
    let ours = |s: &Scene| s.space.discard(s.range()).expect("discard");
    let bare = |s: &Scene| punch(s.object(), OFFSET, s.len);
    let mut others = vec![(throw.contender("one fallocate", bare), Goal::None)];
    if let Some(maps) = Maps::open() {
        let asked = throw.contender("all calls that pagetie makes: query, fallocate", move |s| {
            assert!(maps.ask(s.place));
            bare(s);
        });
        others.push((asked, Goal::None));
    }
    Contest { ours: throw.contender("pagetie", ours), others }
}

/// The same asked of the region, which is tied nowhere.
fn discard_region(len: usize) -> Contest {
    let throw = ThrowAway {
        scene: Scene::new(len),
        before: |s: &Scene| s.region.write_at(OFFSET, &vec![1; s.len]).expect("write_at"),
        left: |s: &Scene| {
            let mut seen = vec![1; s.len];
            s.region.read_at(OFFSET, &mut seen).expect("read_at");
            assert!(seen.iter().all(|byte| *byte == 0));
        },
    };
    let ours = |s: &Scene| s.region.discard(OFFSET..OFFSET + s.len).expect("discard");
    let bare = |s: &Scene| punch(s.object(), OFFSET, s.len);
    let others = vec![(throw.contender("one fallocate", bare), Goal::None)];
    Contest { ours: throw.contender("pagetie", ours), others }
}

/// inspect of a tie and its neighbours: three mappings.
fn inspect(len: usize) -> Contest {
    let scene = Scene::tied(len);
    let around = |s: &Scene| s.at - page::size()..s.at + s.len + page::size();
    let found = scene.space.inspect(around(&scene)).expect("inspect");
    assert_eq!(
        found.iter().map(|mapping| mapping.shared).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(found[1].addr.len(), len);

    let mut others = Vec::new();
    if let Some(maps) = Maps::open() {
        let range = around(&scene);
        // SAFETY: the scene keeps both; nobody refers to the bytes.
        let place = unsafe { Place::new(&scene.memory, range.start, range.len()) };
        let three = plain("three queries", &scene, move |_| assert_eq!(maps.walk(place), Some(3)));
        others.push((three, Goal::None));
    }
    let ours = move |s: &Scene| {
        black_box(s.space.inspect(around(s)).expect("inspect"));
    };
    Contest { ours: plain("pagetie", &scene, ours), others }
}

/// How many ties one untie_all ends, with as much between two of them as they are long.
const TIES: usize = 16;

fn untie_all_discard(len: usize) -> Contest {
    let show = |s: &Scene, place: Place| place.alias(s.object(), OFFSET);
    let back = |place: Place, ()| place.zeros();
    all_untied(len, BAREST, 0, "16 mmap", show, back)
}

fn untie_all_keep(len: usize) -> Contest {
    let show = |s: &Scene, place: Place| {
        let aside = place.aside();
        place.alias(s.object(), OFFSET);
        aside
    };
    // SAFETY: what `aside` gave, used once.
    let back = |place: Place, aside| unsafe { place.back(aside) };
    all_untied(len, TieOptions::new(Access::ReadWrite), COVERED, "16 mremap", show, back)
}

/// Ends ties that leave `left`, beside bare calls that bring `back` what was there.
fn all_untied<A: 'static>(
    len: usize,
    how: TieOptions,
    left: u64,
    name: &'static str,
    show: impl Fn(&Scene, Place) -> A + 'static,
    back: impl Fn(Place, A) + 'static,
) -> Contest {
    let scene = Scene::new(len);
    let all = scene.at..scene.at + 2 * TIES * len;
    scene.write(all.clone(), COVERED);
    let ats: Rc<[usize]> = all.clone().step_by(2 * len).collect();
    // SAFETY: the scene keeps both; nobody refers to the bytes.
    let place = |at: &usize| unsafe { Place::new(&scene.memory, *at, len) };
    let places: Rc<[Place]> = ats.iter().map(place).collect();
    let assert_all = |there: Vec<u64>| {
        let each = [there, scene.of(COVERED)].concat();
        assert_eq!(scene.words(all.clone()), each.repeat(TIES));
    };
    let tie_each = {
        let s = Rc::clone(&scene);
        move || ats.iter().map(|at| s.tie_at(*at, how)).collect::<Vec<_>>()
    };
    let show_each = {
        let (s, places) = (Rc::clone(&scene), Rc::clone(&places));
        move || places.iter().map(|place| show(&s, *place)).collect::<Vec<_>>()
    };
    let back_each = move |shown: Vec<A>| {
        places.iter().zip(shown).for_each(|(place, shown)| back(*place, shown))
    };

    let ties = tie_each();
    assert_all(scene.numbers(OFFSET));
    scene.space.untie_all().expect("untie_all");
    assert!(ties.iter().all(|tie| !tie.is_live()));
    assert_all(scene.of(left));
    let shown = show_each();
    assert_all(scene.numbers(OFFSET));
    back_each(shown);
    assert_all(scene.of(left));

    let untie = move |ties| {
        scene.space.untie_all().expect("untie_all");
        ties
    };
    let bare = Contender::staged(name, show_each, back_each, |()| ());
    let ours = Contender::staged("pagetie", tie_each, untie, drop::<Vec<Tie>>);
    Contest { ours, others: vec![(bare, Goal::None)] }
}

/// resume + park of an alias whose pages are mapped in.
fn park(len: usize) -> Contest {
    let scene = Scene::new(len);
    let parked = {
        let s = Rc::clone(&scene);
        move || s.tie_at(s.at, BAREST.prefault(Prefault::Populate)).park().expect("park")
    };
    let tie = parked().resume(&scene.space, scene.at).expect("resume");
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    drop(tie.park().expect("park"));
    assert_eq!(scene.seen(), scene.of(0));

    let s = Rc::clone(&scene);
    let ours = Contender::within(
        "pagetie",
        move || Some(parked()),
        move |parked: &mut Option<Parked>| {
            let tie = parked.take().expect("parked").resume(&s.space, s.at).expect("resume");
            *parked = Some(tie.park().expect("park"));
        },
        drop,
    );
    // The alias stays as it is moved away, without its page tables.
    let two = parked_bare("two mremap", &scene, |_| ());
    let three = parked_bare("two mremap, and mmap of what was covered", &scene, Place::zeros);
    Contest { ours, others: vec![(two, Goal::None), (three, Goal::None)] }
}

/// Moves an alias in and out again, `then` does the rest.
fn parked_bare(name: &'static str, scene: &Rc<Scene>, then: fn(Place)) -> Contender {
    let place = scene.place;
    let out = move || {
        let aside = place.aside();
        then(place);
        aside
    };
    let s = Rc::clone(scene);
    let first = move || {
        s.place.alias(s.object(), OFFSET);
        s.place.populate();
        out()
    };
    // SAFETY: what `aside` gave, used once.
    let back = move |aside| unsafe { place.back(aside) };
    back(first());
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    place.zeros();

    let s = Rc::clone(scene);
    let each = move |aside: &mut *mut c_void| {
        back(*aside);
        *aside = out();
    };
    let end = move |aside| {
        back(aside);
        s.place.zeros();
    };
    Contender::within(name, first, each, end)
}

/// What every page that is lent holds.
const LENT: u64 = COVERED - 1;

/// lend + give_back of pages that were written to, over others that were.
fn lend(len: usize) -> Contest {
    let scene = Scene::new(len);
    let memory = Rc::new(Memory::new(len));
    // SAFETY: every contender keeps the memory; nobody refers to the bytes.
    let home = unsafe { Place::new(&memory, 0, len) };
    let pages = (0..len).step_by(page::size());
    for at in pages.clone() {
        // SAFETY: in bounds of the memory, aligned, writable.
        unsafe { memory.as_ptr().add(at).cast::<u64>().write_volatile(LENT) };
    }
    let at_home = || {
        // SAFETY: in bounds of the memory, which is readable all over.
        let words = pages.clone().map(|at| unsafe { page_number(memory.as_ptr().add(at)) });
        words.collect::<Vec<_>>()
    };
    let assert_lent = || {
        assert_eq!(scene.seen(), scene.of(LENT));
        assert_eq!(at_home(), scene.of(0));
    };
    let lend = {
        let (s, m) = (Rc::clone(&scene), Rc::clone(&memory));
        // SAFETY: private memory of ours, which lives as long as the contender; one thread, which has no
        // references into it.
        move || unsafe { s.space.lend(s.at, m.as_ptr(), s.len) }.expect("lend")
    };

    let loan = lend();
    assert_lent();
    loan.give_back().expect("give back");
    assert_eq!((scene.seen(), at_home()), (scene.of(COVERED), scene.of(LENT)));
    let aside = scene.place.aside();
    home.move_over(scene.place);
    assert_lent();
    scene.place.move_over(home);
    // SAFETY: what `aside` gave, used once.
    unsafe { scene.place.back(aside) };
    assert_eq!((scene.seen(), at_home()), (scene.of(COVERED), scene.of(LENT)));

    let ours = Contender::new("pagetie", move || lend().give_back().expect("give back"));
    let (s, t, m) = (Rc::clone(&scene), Rc::clone(&scene), Rc::clone(&memory));
    // What it covers is lost.
    let two = Contender::within(
        "two mremap",
        move || Rc::clone(&m),
        move |_| {
            home.move_over(s.place);
            s.place.move_over(home);
        },
        move |_| t.touch(),
    );
    let four = Contender::within(
        "two mremap, and two that keep what is covered",
        move || Rc::clone(&memory),
        move |_| {
            let aside = scene.place.aside();
            home.move_over(scene.place);
            scene.place.move_over(home);
            // SAFETY: what `aside` gave, used once.
            unsafe { scene.place.back(aside) };
        },
        drop,
    );
    Contest { ours, others: vec![(two, Goal::None), (four, Goal::None)] }
}

/// Window::show, to and fro between two places of the region, over pages nobody touches.
fn show(len: usize) -> Contest {
    let scene = Scene::new(len);
    let new = |s: &Scene| Window::new(&s.space, s.at, s.len, &s.region, BAREST).expect("window");
    let slide = |s: &Scene, window: &mut Window| {
        let start = next(window.shown().start);
        window.show(start..start + s.len).expect("show")
    };

    let mut window = new(&scene);
    for offset in [OFFSET, 2 * OFFSET] {
        assert_eq!(slide(&scene, &mut window), scene.at);
        assert_eq!(scene.seen(), scene.numbers(offset));
    }
    window.untie().expect("untie");
    scene.place.alias(scene.object(), OFFSET);
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    scene.place.zeros();

    let (s, t) = (Rc::clone(&scene), Rc::clone(&scene));
    let each = move |window: &mut Window| {
        black_box(slide(&t, window));
    };
    let untie = |window: Window| window.untie().expect("untie");
    let ours = Contender::within("pagetie", move || new(&s), each, untie);
    let bare = alternating("one mmap", &scene, |s, offset| s.place.alias(s.object(), offset));
    let mut others = vec![(bare, Goal::None)];
    others.extend(query_and_mmap(&scene).map(|asked| (asked, Goal::None)));
    Contest { ours, others }
}

/// Every question about verbs.
pub fn all() -> Vec<Question> {
    let mut all = Vec::new();
    for len in sizes().into_iter().rev() {
        let mut ask = |what: &str, contest| all.push(Question::new(what, len, contest));
        ask("tie + untie, covered: Discard", discard);
        ask("tie + load from each page + untie, covered: Discard", discard_read);
        ask("tie + untie, covered: Keep", keep);
        if Faults::open().is_some() {
            ask("tie + untie, covered: Keep, concurrent", keep_concurrent);
        }
        ask("retie", retie);
    }
    let mut ask = |what: &str, contest| all.push(Question::new(what, 64 << 10, contest));
    ask("protect and back, a read-write tie", protect);
    ask("discard, untied private memory", discard_untied);
    ask("discard, a read-write tie", discard_tied);
    ask("Region::discard", discard_region);
    ask("inspect, a tie and its neighbours", inspect);
    ask("untie_all, 16 ties, covered: Discard", untie_all_discard);
    ask("untie_all, 16 ties, covered: Keep", untie_all_keep);
    ask("resume + park, populated, covered: Discard", park);
    ask("lend + give_back", lend);
    ask("Window::show, to and fro", show);
    all
}

/// Single system calls, for telling where a verb's time goes.
pub fn calls(len: usize) -> Vec<Contender> {
    let scene = Scene::new(len);
    scene.place.alias(scene.object(), OFFSET);
    assert_eq!(scene.seen(), scene.numbers(OFFSET));
    scene.place.zeros();
    let s = Rc::clone(&scene);
    let mut calls = vec![
        // SAFETY: asks for a number and touches no memory.
        Contender::new("getppid", || assert!(unsafe { libc::getppid() } >= 0)),
        Contender::new("msync(MS_INVALIDATE)", move || s.place.probe()),
    ];
    if let Some(maps) = Maps::open() {
        let s = Rc::clone(&scene);
        calls.push(Contender::new("PROCMAP_QUERY", move || assert!(maps.ask(s.place))));
    }
    let place = |s: &Scene, offset| s.place.alias(s.object(), offset);
    calls.push(alternating("mmap, an alias over an alias", &scene, place));
    calls
}
