//! A guest reads every byte once: after a tie, after a memcpy, or of memory mapped all along.
//!
//! A round that ties starts from nothing mapped, so each page faults in at its first read; the
//! call, that first scan and the end of the tie are shown apart too.

use super::{Contender, Pages, copy_to, numbered, page_number, sum};
use crate::bare::{BLOCK, Memory};
use pagetie::{Access, Covered, Parked, Prefault, Region, Space, Tie, TieOptions, page};
use std::{cell::RefCell, hint::black_box, rc::Rc};

/// One page to 256 MiB.
pub fn sizes() -> Vec<usize> {
    let mut sizes = vec![page::size(), 64 << 10, 1 << 20, 16 << 20, 256 << 20];
    sizes.dedup();
    sizes
}

/// A region, its own view mapped in, and a place of the same length to show it at.
pub struct Scene {
    pub space: Space,
    pub region: Region,
    pub len: usize,
    sum: u64,
}

/// Read-write, over pages that nobody wants back: the tie with the fewest calls.
pub const BAREST: TieOptions = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);

impl Scene {
    pub fn new(len: usize, pages: Pages) -> Rc<Self> {
        let space = Space::reserve(len).expect("reserve");
        let (region, sum) = numbered(len, pages);
        let scene = Self { space, region, len, sum };
        let tie = scene.tie(BAREST);
        scene.scan(tie.as_ptr());
        // SAFETY: the tie's last page is mapped.
        let last = unsafe { page_number(tie.as_ptr().add(len - page::size())) };
        assert_eq!(last, (len / page::size() - 1) as u64);
        tie.untie().expect("untie");
        // Maps all of the region's own view in.
        scene.scan(scene.region.as_ptr());
        Rc::new(scene)
    }

    pub fn tie(&self, how: TieOptions) -> Tie {
        self.space.tie(0, &self.region, .., how).expect("tie")
    }

    /// Reads every byte.
    pub fn scan(&self, start: *const u8) {
        // SAFETY: every caller passes memory of `len` bytes that is mapped and that nobody writes.
        let sum = unsafe { sum(black_box(start), self.len) };
        assert_eq!(sum, self.sum);
    }

    /// Writes to every page; what is there already, so that the sum stays.
    pub fn write(&self, start: *mut u8) {
        for k in 0..self.len / page::size() {
            // SAFETY: every caller passes memory of `len` bytes that is mapped and writable.
            unsafe { start.add(k * page::size()).cast::<u64>().write_volatile(k as u64) };
        }
    }
}

/// A scan of memory that was mapped in all along: the region's own view.
pub fn mapped(name: &'static str, scene: &Rc<Scene>) -> Contender {
    let s = Rc::clone(scene);
    Contender::new(name, move || s.scan(s.region.as_ptr()))
}

/// Copied into warm memory, and scanned there.
fn copied(name: &'static str, scene: &Rc<Scene>) -> Contender {
    let (s, warm) = (Rc::clone(scene), Memory::new(scene.len));
    let copy = move || {
        copy_to(&s.region, 0, &warm, s.len);
        s.scan(warm.as_ptr());
    };
    copy();
    Contender::new(name, copy)
}

/// A tie and the first scan of it. Its end does not count.
pub fn tied(name: &'static str, scene: &Rc<Scene>, how: TieOptions) -> Contender {
    let s = Rc::clone(scene);
    let each = move |()| {
        let tie = s.tie(how);
        s.scan(tie.as_ptr());
        tie
    };
    Contender::staged(name, || (), each, untie)
}

pub fn untie(tie: Tie) {
    tie.untie().expect("untie");
}

/// A parked alias, mapped in, is resumed, and `then` something is done with it. That it parks again
/// does not count.
pub fn resumed(
    name: &'static str,
    scene: &Rc<Scene>,
    then: impl Fn(&Scene, *mut u8) + 'static,
) -> Contender {
    let how = TieOptions::new(Access::ReadWrite).prefault(Prefault::Populate);
    let parked = scene.tie(how).park().expect("park");
    let parked: Rc<RefCell<Option<Parked>>> = Rc::new(RefCell::new(Some(parked)));
    let (s, p) = (Rc::clone(scene), Rc::clone(&parked));
    Contender::staged(
        name,
        move || p.take().expect("parked"),
        move |parked| {
            let tie = parked.resume(&s.space, 0).expect("resume");
            then(&s, tie.as_ptr());
            tie
        },
        move |tie| drop(parked.replace(Some(tie.park().expect("park")))),
    )
}

pub const MAPPED: &str = "mapped: scan";
pub const COPIED: &str = "memcpy + scan";
pub const TIED: &str = "tie + scan";

/// All the ways to read `len` bytes, and what the parts of a tie cost.
pub fn contenders(len: usize) -> Vec<Contender> {
    let scene = Scene::new(len, Pages::Base);
    let mut all = vec![
        mapped(MAPPED, &scene),
        copied(COPIED, &scene),
        tied(TIED, &scene, BAREST),
        tied("tie, populated, + scan", &scene, BAREST.prefault(Prefault::Populate)),
    ];
    if len >= BLOCK && Pages::huge_works() {
        let huge = Scene::new(len, Pages::Huge);
        all.push(tied("tie, huge pages, + scan", &huge, BAREST));
    }
    all.push(resumed("resume + scan", &scene, |s, start| s.scan(start)));
    let s = Rc::clone(&scene);
    all.push(Contender::staged("tie alone", || (), move |()| s.tie(BAREST), untie));
    let (s, t) = (Rc::clone(&scene), Rc::clone(&scene));
    all.push(Contender::staged(
        "first scan of a tie",
        move || s.tie(BAREST),
        move |tie| {
            t.scan(tie.as_ptr());
            tie
        },
        untie,
    ));
    let before = move || {
        let tie = scene.tie(BAREST);
        scene.scan(tie.as_ptr());
        tie
    };
    all.push(Contender::staged("untie alone", before, untie, |()| ()));
    all
}
