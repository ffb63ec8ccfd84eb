//! Bytes appear elsewhere and go back: by mmap, by mremap, as a loan, or as a copy, which has no way back.
//! With a reader who sums every byte once, or without.
//!
//! All of it counts, the way back too.

use super::scan::{BAREST, Scene};
use super::{Contender, Pages, copy_to, machine};
use crate::bare::{BLOCK, Memory};
use pagetie::{Parked, Prefault, page};
use std::{hint::black_box, rc::Rc};

/// One way to make bytes appear elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Copy,
    Tie,
    Resume,
    Lend,
    /// The scan alone, of memory that is mapped in.
    ScanInPlace,
    CopyScan,
    TieScan,
    ResumeScan,
    LendScan,
    PopulatedScan,
    HugeScan,
}

impl Way {
    pub const ALL: [Self; 11] = [
        Self::Copy,
        Self::CopyScan,
        Self::ScanInPlace,
        Self::Tie,
        Self::TieScan,
        Self::PopulatedScan,
        Self::Resume,
        Self::ResumeScan,
        Self::Lend,
        Self::LendScan,
        Self::HugeScan,
    ];
    pub const CALLS: [Self; 4] = [Self::Copy, Self::Tie, Self::Resume, Self::Lend];
    pub const SCANS: [Self; 5] =
        [Self::CopyScan, Self::TieScan, Self::ResumeScan, Self::LendScan, Self::ScanInPlace];
    pub const TIES: [Self; 4] =
        [Self::TieScan, Self::PopulatedScan, Self::HugeScan, Self::ResumeScan];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "memcpy",
            Self::Tie => "mmap (tie)",
            Self::Resume => "mremap (resume)",
            Self::Lend => "loan",
            Self::ScanInPlace => "scan in place",
            Self::CopyScan => "memcpy, scan",
            Self::TieScan => "mmap (tie), scan",
            Self::ResumeScan => "mremap (resume), scan",
            Self::LendScan => "loan, scan",
            Self::PopulatedScan => "tie, prefaulted, scan",
            Self::HugeScan => "tie, huge, scan",
        }
    }

    /// What kind of tie it is.
    pub const fn short(self) -> &'static str {
        match self {
            Self::TieScan => "base pages",
            Self::PopulatedScan => "prefaulted",
            Self::HugeScan => "huge (collapsed)",
            Self::ResumeScan => "warm (resumed)",
            other => other.name(),
        }
    }

    fn scans(self) -> bool {
        !Self::CALLS.contains(&self)
    }
}

/// The largest size that is asked for.
pub const MOST: usize = 1 << 30;

/// One page, and four times as much each time, up to `most`, or less where memory is short.
pub fn sizes(most: usize) -> Vec<usize> {
    // A region, a huge one, the copy, what is lent; and as much again for others.
    let most = usize::min(most, machine::available() / 8);
    let larger = |len: &usize| Some(len * 4);
    std::iter::successors(Some(page::size()), larger).take_while(|len| *len <= most).collect()
}

/// Those of the ways that there are here, for `len` bytes: huge pages are not everywhere.
pub fn contenders(len: usize, ways: &[Way]) -> Vec<(Way, Contender)> {
    let scene = Scene::new(len, Pages::Base);
    let copy = Rc::new(Memory::new(len));
    let lent = Rc::new(Memory::new(len));
    let huge = ways.contains(&Way::HugeScan) && len >= BLOCK && Pages::huge_works();
    let huge = huge.then(|| Scene::new(len, Pages::Huge));
    let contender = |&way: &Way| {
        let s = Rc::clone(&scene);
        let contender = match way {
            Way::Copy | Way::CopyScan => copied(way, s, Rc::clone(&copy)),
            Way::Resume | Way::ResumeScan => resumed(way, s),
            Way::Lend | Way::LendScan => loaned(way, s, Rc::clone(&lent)),
            Way::Tie | Way::TieScan | Way::PopulatedScan => tied(way, s),
            Way::HugeScan => tied(way, Rc::clone(huge.as_ref()?)),
            Way::ScanInPlace => Contender::new(way.name(), move || s.scan(s.region.as_ptr())),
        };
        Some((way, contender))
    };
    ways.iter().filter_map(contender).collect()
}

/// Does `each`, which is told whether to read every byte, once with that, so that the sum is asserted.
fn asserted(way: Way, mut each: impl FnMut(bool) + 'static) -> Contender {
    each(true);
    Contender::new(way.name(), move || each(way.scans()))
}

fn copied(way: Way, s: Rc<Scene>, warm: Rc<Memory>) -> Contender {
    asserted(way, move |scans| {
        copy_to(&s.region, 0, black_box(&warm), s.len);
        if scans {
            s.scan(warm.as_ptr());
        }
    })
}

fn tied(way: Way, s: Rc<Scene>) -> Contender {
    let populated = BAREST.prefault(Prefault::Populate);
    let how = if way == Way::PopulatedScan { populated } else { BAREST };
    asserted(way, move |scans| {
        let tie = s.tie(how);
        if scans {
            s.scan(tie.as_ptr());
        }
        tie.untie().expect("untie");
    })
}

fn resumed(way: Way, s: Rc<Scene>) -> Contender {
    let tie = s.tie(BAREST.prefault(Prefault::Populate));
    let mut parked: Option<Parked> = Some(tie.park().expect("park"));
    asserted(way, move |scans| {
        let tie = parked.take().expect("parked").resume(&s.space, 0).expect("resume");
        if scans {
            s.scan(tie.as_ptr());
        }
        parked = Some(tie.park().expect("park"));
    })
}

fn loaned(way: Way, s: Rc<Scene>, lent: Rc<Memory>) -> Contender {
    copy_to(&s.region, 0, &lent, s.len);
    let (t, home) = (Rc::clone(&s), Rc::clone(&lent));
    let contender = asserted(way, move |scans| {
        // SAFETY: private memory of ours, which lives as long as the contender; one thread, which has no
        // references into it and uses the loan only.
        let loan = unsafe { s.space.lend(0, lent.as_ptr(), s.len) }.expect("lend");
        if scans {
            s.scan(loan.as_ptr());
        }
        loan.give_back().expect("give back");
    });
    // All of it came home.
    t.scan(home.as_ptr());
    contender
}
