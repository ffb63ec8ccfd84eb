//! What removes the page faults after a tie: huge pages, populating, parking.

use super::scan::{BAREST, Scene, mapped, resumed, tied, untie};
use super::{Contender, Contest, Goal, Pages, Question};
use crate::bare::{Memory, Place};
use pagetie::{Access, Prefault, TieOptions};
use std::rc::Rc;

/// A tie as most are made: it keeps what it covers.
const KEEP: TieOptions = TieOptions::new(Access::ReadWrite);

const POPULATED: TieOptions = KEEP.prefault(Prefault::Populate);

/// One mmap of the region, then `each`; that it is replaced by zeros does not count.
fn bare(
    name: &'static str,
    scene: &Rc<Scene>,
    each: impl Fn(&Scene, Place, *mut u8) + 'static,
) -> Contender {
    let (s, memory) = (Rc::clone(scene), Memory::new(scene.len));
    // SAFETY: the contender keeps the memory; nobody refers to its bytes.
    let place = unsafe { Place::new(&memory, 0, s.len) };
    let timed = move |()| {
        place.alias(s.region.fd().expect("a region of ours has a descriptor"), 0);
        each(&s, place, memory.as_ptr());
    };
    Contender::staged(name, || (), timed, move |()| place.zeros())
}

/// A tie, and a write to each page of it.
fn written(name: &'static str, scene: &Rc<Scene>, how: TieOptions) -> Contender {
    let s = Rc::clone(scene);
    let each = move |()| {
        let tie = s.tie(how);
        s.write(tie.as_ptr());
        tie
    };
    Contender::staged(name, || (), each, untie)
}

fn huge_scan(len: usize, how: TieOptions) -> Contest {
    let scene = Scene::new(len, Pages::Huge);
    let others = vec![
        (mapped("a scan of the region's own view, huge too", &scene), Goal::Time(1.05)),
        (bare("one mmap + scan", &scene, |s, _, start| s.scan(start)), Goal::None),
    ];
    Contest { ours: tied("pagetie", &scene, how), others }
}

fn huge_write(len: usize) -> Contest {
    let (huge, base) = (Scene::new(len, Pages::Huge), Scene::new(len, Pages::Base));
    let others = vec![
        (written("the same, base pages", &base, KEEP), Goal::Time(1.0 / 50.0)),
        (bare("one mmap + write", &huge, |s, _, start| s.write(start)), Goal::None),
    ];
    Contest { ours: written("pagetie", &huge, KEEP), others }
}

fn populated_write(len: usize) -> Contest {
    let scene = Scene::new(len, Pages::Base);
    let populated = |s: &Scene, place: Place, start| {
        place.populate();
        s.write(start);
    };
    let others = vec![
        (written("the same, not populated", &scene, KEEP), Goal::Time(0.2)),
        (bare("mmap + populate + write", &scene, populated), Goal::None),
    ];
    Contest { ours: written("pagetie", &scene, POPULATED), others }
}

fn populated_scan(len: usize) -> Contest {
    let scene = Scene::new(len, Pages::Base);
    let view = mapped("a scan of the region's own view", &scene);
    Contest { ours: tied("pagetie", &scene, POPULATED), others: vec![(view, Goal::None)] }
}

fn resume(len: usize) -> Contest {
    let scene = Scene::new(len, Pages::Base);
    let populate = bare("mmap + populate", &scene, |_, place, _| place.populate());
    Contest {
        ours: resumed("pagetie", &scene, |_, _| ()),
        others: vec![(populate, Goal::Time(1.0 / 50.0))],
    }
}

fn resume_scan(len: usize) -> Contest {
    let scene = Scene::new(len, Pages::Base);
    let view = mapped("a scan of the region's own view", &scene);
    Contest {
        ours: resumed("pagetie", &scene, |s, start| s.scan(start)),
        others: vec![(view, Goal::Time(1.05))],
    }
}

/// Every question about page faults.
pub fn all() -> Vec<Question> {
    let mut all = Vec::new();
    let mut ask = |what: &str, len, contest| all.push(Question::new(what, len, contest));
    const MIB: usize = 1 << 20;
    if Pages::huge_works() {
        ask("tie + full scan, huge pages", 16 * MIB, |len| huge_scan(len, KEEP));
        ask("tie, populated, + full scan, huge pages", 16 * MIB, |len| huge_scan(len, POPULATED));
        let both = "tie, populated, + full scan, huge pages, covered: Discard";
        ask(both, 16 * MIB, |len| huge_scan(len, BAREST.prefault(Prefault::Populate)));
        let discard = "tie + full scan, huge pages, covered: Discard";
        ask(discard, 16 * MIB, |len| huge_scan(len, BAREST));
        ask("tie + write every page, huge pages", 16 * MIB, huge_write);
    }
    ask("tie, populated, + write every page", 16 * MIB, populated_write);
    ask("tie, populated, + full scan", 16 * MIB, populated_scan);
    ask("resume, populated", 256 * MIB, resume);
    ask("resume + full scan", 16 * MIB, resume_scan);
    ask("resume + full scan", 256 * MIB, resume_scan);
    all
}
