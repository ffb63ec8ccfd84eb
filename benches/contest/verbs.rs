//! The verbs over a borrowed memory of private pages, against the system calls they cannot do
//! without, at the same addresses.

use super::{Contender, Contest, Goal, Question, numbered_region, page_number};
use crate::bare::{Faults, Maps, Memory, Place};
use pagetie::{Access, Covered, Region, Space, TieOptions, page};
use std::{os::fd::BorrowedFd, rc::Rc};

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
}

/// What every page of the memory holds before anything is tied.
const COVERED: u64 = u64::MAX;

impl Scene {
    fn new(len: usize) -> Rc<Self> {
        let memory = Memory::new(16 << 20);
        let at = memory.len() / 2;
        // SAFETY: the memory is ours alone, plain data that nobody refers to, and it is dropped
        // after the space.
        let space = unsafe { Space::borrow(memory.as_ptr(), memory.len()) }.expect("borrow");
        // SAFETY: the scene keeps both; nobody refers to the bytes.
        let place = unsafe { Place::new(&memory, at, len) };
        let (region, _) = numbered_region(4 << 20);
        let scene = Self { space, at, len, place, memory, region };
        scene.touch();
        Rc::new(scene)
    }

    /// Writes to every page of the range and to its neighbours.
    fn touch(&self) {
        let page = page::size();
        for at in (self.at - page..self.at + self.len + page).step_by(page) {
            // SAFETY: in bounds of the memory, aligned, nothing tied.
            unsafe { self.memory.as_ptr().add(at).cast::<u64>().write_volatile(COVERED) };
        }
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
        // SAFETY: in bounds of the memory, which is readable all over.
        (0..self.len / page::size())
            .map(|k| unsafe {
                page_number(self.memory.as_ptr().add(self.at + k * page::size()).cast_const())
            })
            .collect()
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
    if let Some(maps) = Maps::open() {
        let asked =
            alternating("all calls that pagetie makes: query, mmap", &scene, move |s, offset| {
                assert!(maps.ask(s.place));
                s.place.alias(s.object(), offset);
            });
        others.push((asked, Goal::None));
    }
    Contest { ours, others }
}

/// Where the next retie goes.
fn next(offset: usize) -> usize {
    if offset == OFFSET { 2 * OFFSET } else { OFFSET }
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
