//! Many small things in one call: scattered discards, ties page by page.

use super::scan::BAREST;
use super::{Contender, Contest, Goal, Question, numbered_region, page_number};
use crate::bare::{Batch, Memory, Place, punch};
use pagetie::{Access, Region, Space, Tie, TieSpec, page};
use std::{ops::Range, rc::Rc};

/// A borrowed memory, page by page.
struct Scene {
    tie: Option<Tie>,
    // Before the memory it borrows, so that it is dropped first.
    space: Space,
    memory: Memory,
    region: Region,
    /// What is discarded: every other page, so that none has a neighbour.
    ranges: Vec<Range<usize>>,
    places: Vec<Place>,
}

/// What is written to a page before it is discarded.
const WRITTEN: u64 = u64::MAX;

impl Scene {
    /// `pages` scattered pages in a memory of twice as many, and a region as long as that.
    fn new(pages: usize) -> Self {
        let len = 2 * pages * page::size();
        let memory = Memory::new(len);
        // SAFETY: the memory is ours alone, plain data that nobody refers to, and it is dropped
        // after the space.
        let space = unsafe { Space::borrow(memory.as_ptr(), len) }.expect("borrow");
        let starts = (0..len).step_by(2 * page::size());
        let ranges: Vec<_> = starts.map(|at| at..at + page::size()).collect();
        let place = |range: &Range<usize>| {
            // SAFETY: the scene keeps both; nobody refers to the bytes.
            unsafe { Place::new(&memory, range.start, page::size()) }
        };
        let places = ranges.iter().map(place).collect();
        let (region, _) = numbered_region(len);
        Self { tie: None, space, memory, region, ranges, places }
    }

    fn write(&self) {
        for range in &self.ranges {
            // SAFETY: in bounds of the memory, aligned, writable.
            unsafe { self.first_word(range.start).write_volatile(WRITTEN) };
        }
    }

    fn first_word(&self, at: usize) -> *mut u64 {
        self.memory.as_ptr().wrapping_add(at).cast()
    }

    fn assert_all(&self, word: impl Fn(usize) -> u64) {
        for range in &self.ranges {
            // SAFETY: in bounds of the memory, which is readable all over.
            let seen = unsafe { page_number(self.first_word(range.start).cast()) };
            assert_eq!(seen, word(range.start / page::size()));
        }
    }
}

type Bare = (&'static str, Box<dyn Fn(&Scene)>, Goal);

/// What is discarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// Pages that were written to.
    Written,
    /// Nothing: they are gone already, and the calls are all there is.
    Nothing,
}

/// Every discard of pages that were written to must leave `afterwards`.
fn discards(
    scene: Scene,
    there: There,
    afterwards: impl Fn(usize) -> u64,
    bare: Vec<Bare>,
) -> Contest {
    let scene = Rc::new(scene);
    let contender = |name, discard: Box<dyn Fn(&Scene)>| {
        scene.write();
        scene.assert_all(|_| WRITTEN);
        discard(&scene);
        scene.assert_all(&afterwards);
        // Looking at them has mapped the page of zeros in.
        discard(&scene);
        let (s, t) = (Rc::clone(&scene), Rc::clone(&scene));
        let before = move || match there {
            There::Written => s.write(),
            There::Nothing => (),
        };
        Contender::staged(name, before, move |()| discard(&t), |()| ())
    };
    let many = |s: &Scene| s.space.discard_many(&s.ranges).expect("discard_many");
    let each = |s: &Scene| {
        for range in &s.ranges {
            s.space.discard(range.clone()).expect("discard");
        }
    };
    let bare = bare.into_iter().map(|(name, bare, goal)| (contender(name, bare), goal));
    let mut others: Vec<_> = bare.collect();
    others.push((contender("Space::discard each", Box::new(each)), Goal::None));
    Contest { ours: contender("pagetie", Box::new(many)), others }
}

fn private(scene: Scene, there: There, afterwards: impl Fn(usize) -> u64) -> Contest {
    let each = |scene: &Scene| scene.places.iter().for_each(|place| place.forget());
    let mut bare: Vec<Bare> = vec![("one madvise each", Box::new(each), Goal::Speed(5.0))];
    // SAFETY: the scene keeps the memory; nobody refers to the bytes.
    if let Some(batch) = unsafe { Batch::new(&scene.places) } {
        bare.push(("process_madvise", Box::new(move |_| batch.forget()), Goal::None));
    }
    discards(scene, there, afterwards, bare)
}

fn untied(len: usize) -> Contest {
    private(Scene::new(len / page::size()), There::Written, |_| 0)
}

fn untied_nothing(len: usize) -> Contest {
    private(Scene::new(len / page::size()), There::Nothing, |_| 0)
}

/// The region tied over all of the memory.
fn tied(len: usize, access: Access) -> Scene {
    let mut scene = Scene::new(len / page::size());
    scene.tie = Some(scene.space.tie(0, &scene.region, .., access).expect("tie"));
    scene
}

fn copy_on_write(len: usize) -> Contest {
    private(tied(len, Access::CopyOnWrite), There::Written, |n| n as u64)
}

fn shared(len: usize) -> Contest {
    let punch_each = |scene: &Scene| {
        let object = scene.region.fd().expect("a region of ours has a descriptor");
        scene.ranges.iter().for_each(|range| punch(object, range.start, range.len()));
    };
    let bare: Vec<Bare> = vec![("one fallocate each", Box::new(punch_each), Goal::Time(1.05))];
    discards(tied(len, Access::ReadWrite), There::Written, |_| 0, bare)
}

/// Pages of a region, in some order, tied to the pages of a memory in some order.
struct Pages {
    space: Space,
    region: Region,
    /// Where, and of which page.
    items: Vec<(usize, usize)>,
    memory: Memory,
    places: Vec<Place>,
}

/// Numbers that count up in steps of `step`, each of them once.
fn order(pages: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..pages).map(move |k| k * step % pages)
}

impl Pages {
    /// An odd step shuffles a power of two; 1 leaves it in order.
    fn new(len: usize, at_step: usize, offset_step: usize) -> Rc<Self> {
        let pages = len / page::size();
        assert!(pages.is_power_of_two());
        let memory = Memory::new(len);
        // SAFETY: the memory is ours alone, plain data that nobody refers to, and it is dropped
        // after the space.
        let space = unsafe { Space::borrow(memory.as_ptr(), len) }.expect("borrow");
        let in_bytes = |k| k * page::size();
        let items = order(pages, at_step).zip(order(pages, offset_step));
        let items: Vec<_> = items.map(|(at, from)| (in_bytes(at), in_bytes(from))).collect();
        // SAFETY: the scene keeps both; nobody refers to the bytes.
        let place = |&(at, _): &(usize, usize)| unsafe { Place::new(&memory, at, page::size()) };
        let places = items.iter().map(place).collect();
        let (region, _) = numbered_region(len);
        Rc::new(Self { space, region, items, memory, places })
    }

    fn tie_all(&self) -> Vec<Tie> {
        let spec = |&(at, from): &(usize, usize)| TieSpec {
            at,
            region: &self.region,
            range: from..from + page::size(),
            options: BAREST,
        };
        let specs: Vec<TieSpec<'_>> = self.items.iter().map(spec).collect();
        self.space.tie_all(&specs).expect("tie_all")
    }

    fn alias(&self, order: impl Iterator<Item = usize>) {
        let object = self.region.fd().expect("a region of ours has a descriptor");
        order.for_each(|k| self.places[k].alias(object, self.items[k].1));
    }

    fn zeros(&self) {
        // SAFETY: the whole memory, whose bytes nobody refers to.
        unsafe { Place::new(&self.memory, 0, self.memory.len()) }.zeros();
    }

    fn assert_shown(&self) {
        for &(at, from) in &self.items {
            // SAFETY: in bounds of the memory, which is readable all over.
            let seen = unsafe { page_number(self.memory.as_ptr().add(at)) };
            assert_eq!(seen, (from / page::size()) as u64);
        }
    }
}

fn tie_all(scene: Rc<Pages>, bare: Vec<(&'static str, Vec<usize>, Goal)>) -> Contest {
    let ties = scene.tie_all();
    scene.assert_shown();
    drop(ties);
    let s = Rc::clone(&scene);
    let ours = Contender::staged("pagetie", || (), move |()| s.tie_all(), drop);
    let others = bare.into_iter().map(|(name, order, goal)| {
        scene.alias(order.iter().copied());
        scene.assert_shown();
        scene.zeros();
        let (s, t) = (Rc::clone(&scene), Rc::clone(&scene));
        let each = move |()| s.alias(order.iter().copied());
        (Contender::staged(name, || (), each, move |()| t.zeros()), goal)
    });
    Contest { ours, others: others.collect() }
}

fn tie_all_in_order(len: usize) -> Contest {
    let scene = Pages::new(len, 1, 1);
    let in_order = (0..scene.items.len()).collect();
    tie_all(scene, vec![("one mmap each", in_order, Goal::None)])
}

fn tie_all_shuffled(len: usize) -> Contest {
    let scene = Pages::new(len, 5_347, 3_209);
    let as_listed = (0..scene.items.len()).collect();
    let mut by_address: Vec<usize> = (0..scene.items.len()).collect();
    by_address.sort_by_key(|k| scene.items[*k].0);
    let bare = vec![
        ("one mmap each", as_listed, Goal::Time(1.1)),
        ("one mmap each, in the order of addresses", by_address, Goal::Time(1.1)),
    ];
    tie_all(scene, bare)
}

/// Every question about batches.
pub fn all() -> Vec<Question> {
    let mut all = Vec::new();
    let mut ask = |what: &str, pages, contest| {
        all.push(Question::new(&format!("{what}, {pages} pages"), pages * page::size(), contest));
    };
    ask("discard_many, scattered, untied private memory", 4_096, untied);
    ask("discard_many, scattered, untied memory without pages", 4_096, untied_nothing);
    ask("discard_many, scattered, a copy-on-write tie", 4_096, copy_on_write);
    ask("discard_many, scattered, a read-write tie", 4_096, shared);
    ask("tie_all, in order, covered: Discard", 8_192, tie_all_in_order);
    ask("tie_all, shuffled, covered: Discard", 8_192, tie_all_shuffled);
    all
}
