//! The real side: regions, spaces, ties and the memory under them, driven in step with the oracle.
//!
//! Every operation is done twice, by pagetie and by the oracle, and both must have allowed it or
//! refused it for the same reason. After each, everything is compared (`check`).

use super::check::{agree, peek};
use super::make::{Backing, Memory, Origin, Pages, Place};
use super::moves::Pane;
use super::ops::{Op, Run, Skew, TieArgs, Writer};
use super::oracle::{Asked, ObjectId, Oracle, Page, RegionId, SLOTS, Source, TieId, slot_offset};
use crate::common;
use libc::{PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{ErrorKind, Loan, Parked, Prot, Region, Space, Tie, TieOptions, TieSpec};
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::{Mutex, OnceLock};

/// How often each operation was done, refused (and why), or had nothing to act on.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, usize>>);

impl Tally {
    fn count(&self, op: &str, outcome: Outcome) {
        let mut counts = self.0.lock().expect("no thread dies counting");
        *counts.entry(format!("{op}: {outcome:?}")).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.0.lock().expect("no thread dies counting").clone()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Done,
    #[allow(dead_code, reason = "counted by its text")]
    Refused(ErrorKind),
    /// Nothing to act on.
    Idle,
}

/// What differs between the crate and the oracle.
pub type Differs = String;

/// Which world: everything in pages of the system, or in huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    Huge,
}

#[derive(Debug)]
pub struct Handle {
    pub id: TieId,
    pub tie: Tie,
    pub region: RegionId,
}

/// Fields are dropped in this order at the end of a failed case: no tie or space outlives the memory.
#[derive(Debug)]
pub struct World<'t> {
    pub oracle: Oracle,
    pub handles: Vec<Handle>,
    pub panes: Vec<Pane>,
    /// Each is the oracle's of the same number.
    pub parked: Vec<Parked>,
    pub places: Vec<Place>,
    pub regions: Vec<Pages>,
    pub backings: Vec<Backing>,
    pub loans: Vec<(TieId, Loan)>,
    /// The host's own memory, with a page behind that nobody may touch.
    pub host: Memory,
    /// Memory that became a region, and stays when the region goes.
    pub adopted: Vec<(Memory, ObjectId)>,
    pub directory: tempfile::TempDir,
    pub unit: usize,
    pub step: u64,
    pub eager: bool,
    pub tally: &'t Tally,
}

/// Whether this kernel lets this process hold back faults: without, no tie can be concurrent.
fn has_userfaultfd() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        const USER_MODE_ONLY: i32 = 1;
        // SAFETY: makes a descriptor, and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
        if fd >= 0 {
            // SAFETY: the descriptor was just made, and is nobody else's.
            unsafe { libc::close(fd as i32) };
        }
        fd >= 0
    })
}

impl World<'_> {
    /// Does one operation on both sides, and compares everything.
    pub fn step(&mut self, op: &Op) -> Result<(), Differs> {
        self.step += 1;
        let outcome = self.apply(op)?;
        self.tally.count(op.name(), outcome);
        self.check()
    }

    /// A word that no other step writes.
    fn word(&self, n: u64) -> u64 {
        0xda7a_0000_0000_0000 | self.step << 8 | n
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome, Differs> {
        let unit = self.unit;
        match *op {
            Op::Tie { space, ref tie } => {
                let s = space % self.places.len();
                let asked = self.asked(tie);
                let region = self.region_of(asked.region);
                let (at, range) = (asked.at, asked.offset..asked.offset + asked.len);
                let found = self.space(s).tie(at, &region, range, options(&asked));
                let expected = self.oracle.tie(s, &asked);
                self.enter(agree(expected, found)?, |(id, tie)| vec![(id, tie)])
            }
            Op::TieAll { space, ref ties } => {
                let s = space % self.places.len();
                let list: Vec<_> = ties.iter().map(|tie| self.asked(tie)).collect();
                let regions: Vec<_> =
                    list.iter().map(|asked| self.region_of(asked.region)).collect();
                let spec = |(asked, region)| spec(asked, region);
                let specs: Vec<_> = list.iter().zip(&regions).map(spec).collect();
                let found = self.space(s).tie_all(&specs);
                drop(specs);
                let expected = self.oracle.tie_all(s, &list);
                self.enter(agree(expected, found)?, |(ids, ties)| {
                    ids.into_iter().zip(ties).collect()
                })
            }
            Op::Retie { tie, region, offset, skew } => {
                let Some(i) = self.handle(tie) else { return Ok(Outcome::Idle) };
                let (target, id) = match region {
                    Some(region) => {
                        let id = self.regions[region % self.regions.len()].id;
                        (self.region_of(id), id)
                    }
                    None => (self.handles[i].tie.region().clone(), self.handles[i].region),
                };
                let offset = match skew {
                    Skew::Offset => self.offset(offset) * unit + self.skew(id),
                    Skew::FarOffset => 1 << 62,
                    _ => self.offset(offset) * unit,
                };
                let Handle { tie, id: handle, .. } = &mut self.handles[i];
                let itself = (tie.at(), tie.len(), tie.access());
                let found = tie.retie(&target, offset);
                let expected = self.oracle.retie(*handle, itself, id, offset);
                let outcome = agree(expected, found)?;
                if outcome.is_ok() {
                    self.handles[i].region = id;
                }
                Ok(outcome_of(&outcome))
            }
            Op::Untie { tie } => {
                let Some(i) = self.handle(tie) else { return Ok(Outcome::Idle) };
                let Handle { id, tie, .. } = self.handles.remove(i);
                tie.untie().map_err(|error| format!("untie was refused: {error}"))?;
                self.oracle.untie(id);
                Ok(Outcome::Done)
            }
            Op::DropTie { tie } => {
                let Some(i) = self.handle(tie) else { return Ok(Outcome::Idle) };
                self.drop_tie(i);
                Ok(Outcome::Done)
            }
            Op::LeakTie { tie } => {
                let Some(i) = self.handle(tie) else { return Ok(Outcome::Idle) };
                // Huge pages that are nobody's tie are refused memory for every later call.
                if self.oracle.regions[self.handles[i].region].huge {
                    return Ok(Outcome::Idle);
                }
                let Handle { id, tie, .. } = self.handles.remove(i);
                tie.leak();
                self.oracle.leak(id);
                Ok(Outcome::Done)
            }
            Op::UntieAll { space } => {
                let s = space % self.places.len();
                let done = self.space(s).untie_all();
                done.map_err(|error| format!("untie_all was refused: {error}"))?;
                self.oracle.untie_all(s);
                Ok(Outcome::Done)
            }
            Op::Protect { space, ref run, prot } => {
                let s = space % self.places.len();
                let (at, len) = self.run_in_space(s, run);
                let found = self.space(s).protect(at..at + len, prot);
                let expected = self.oracle.protect(s, at, len, common::page(), prot);
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::Discard { space, ref run } => {
                let s = space % self.places.len();
                let (at, len) = self.run_in_space(s, run);
                let found = self.space(s).discard(at..at + len);
                let expected = self.oracle.discard(s, at, len, common::page());
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::DiscardRegion { region, ref run } => {
                let Pages { id, region, .. } = &self.regions[region % self.regions.len()];
                let region = region.as_ref().expect("regions are there until the end");
                let (offset, len) = self.run_in_region(*id, run);
                let found = region.discard(offset..offset + len);
                let expected = self.oracle.discard_region(*id, offset, len);
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::HostWrite { region, page, slot, straddles } => {
                let Some((region, id)) = self.writer(region) else { return Ok(Outcome::Idle) };
                let mut words = vec![self.word(0)];
                let (slot, page) = (if straddles { SLOTS - 1 } else { slot }, self.page(page));
                if straddles {
                    words.push(self.word(1));
                }
                let bytes: Vec<_> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let offset = page * unit + slot_offset(unit, slot);
                let found = region.write_at(offset, &bytes);
                let expected = self.oracle.host_write(id, offset, &words);
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::GuestWrite { space, page, slot } => {
                let s = space % self.places.len();
                let page = self.page(page);
                if page >= self.oracle.spaces[s].len || !self.oracle.may_store(s, page, slot) {
                    return Ok(Outcome::Idle);
                }
                self.store(s, page, slot, self.word(0));
                Ok(Outcome::Done)
            }
            Op::OwnerWrite { object, page, slot } => {
                if self.backings.is_empty() {
                    return Ok(Outcome::Idle);
                }
                let Backing { file, object } = &self.backings[object % self.backings.len()];
                let page = page % self.oracle.objects[*object].pages.len();
                let offset = page * unit + slot_offset(unit, slot);
                let word = self.word(0);
                file.write_all_at(&word.to_ne_bytes(), offset as u64).expect("write a memfd");
                self.oracle.object_write(*object, offset, word);
                Ok(Outcome::Done)
            }
            Op::OwnerProtect { space, at, pages, prot } => {
                let s = space % self.places.len();
                let (at, end) = (self.page(at), self.page(at) + pages);
                let end = end.min(self.oracle.spaces[s].len);
                if at >= end {
                    return Ok(Outcome::Idle);
                }
                self.owner_protect(s, at..end, prot);
                Ok(Outcome::Done)
            }
            Op::GrowRegion { region, pages, skew } => {
                let Pages { id, region, .. } = &self.regions[region % self.regions.len()];
                let region = region.as_ref().expect("regions are there until the end");
                let len = match skew {
                    Skew::Len => pages * unit - unit / 2 + 3,
                    Skew::FarAt => usize::MAX - unit + 1,
                    _ => self.page(pages) * unit,
                };
                let found = region.grow(len);
                let expected = self.oracle.grow_region(*id, len);
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::GrowSpace { space, pages, skew } => {
                let s = space % self.places.len();
                let Place { start, memory, .. } = &self.places[s];
                let most = self.oracle.spaces[s].pages.len();
                let elsewhere = skew == Skew::At || skew == Skew::FarAt;
                let start = if elsewhere { start + unit } else { *start };
                let len = if skew == Skew::Len { 1 } else { pages.min(most) } * unit;
                // A reserved space refuses, whatever is said.
                if memory.is_none() && skew != Skew::None {
                    return Ok(Outcome::Idle);
                }
                let pointer = ptr::with_exposed_provenance_mut(start);
                // SAFETY: the clauses of `borrow`; where the start is another, the call refuses it.
                let found = unsafe { self.space(s).grown_to(pointer, len) };
                let expected = self.oracle.grow_space(s, len, elsewhere);
                Ok(outcome_of(&agree(expected, found)?))
            }
            Op::Lend { space, at, home, pages, skew, guarded } => {
                let s = space % self.places.len();
                let (mut at, mut home, mut len) = (self.page(at) * unit, home * unit, pages * unit);
                match skew {
                    Skew::None | Skew::FarOffset => {}
                    Skew::At => at += 1,
                    Skew::Offset => home += 1,
                    Skew::Len => len += 1,
                    Skew::AtAndLen => (at, len) = (at + 1, len + 1),
                    Skew::FarAt => at = 1 << 62,
                }
                // Past its end and its guard may be anything.
                if home + len > self.host.all.len() {
                    return Ok(Outcome::Idle);
                }
                let start = self.host.all.start;
                let addr = ptr::with_exposed_provenance_mut(start + home);
                // SAFETY: the case's own memory, of which no reference is ever made; nobody else accesses it.
                let found = unsafe {
                    match guarded {
                        true => self.space(s).lend_guarded(at, addr, len),
                        false => self.space(s).lend(at, addr, len),
                    }
                };
                let expected = self.oracle.lend(s, (at, home, len), start, guarded);
                let outcome = agree(expected, found)?;
                Ok(match outcome {
                    Ok(both) => {
                        self.loans.push(both);
                        Outcome::Done
                    }
                    Err(kind) => Outcome::Refused(kind),
                })
            }
            Op::GiveBack { loan, drop } => {
                if self.loans.is_empty() {
                    return Ok(Outcome::Idle);
                }
                self.give_back(loan % self.loans.len(), drop)?;
                Ok(Outcome::Done)
            }
            Op::Adopt { region, pages } => {
                let r = region % self.regions.len();
                if self.oracle.regions[self.regions[r].id].huge {
                    return Ok(Outcome::Idle);
                }
                self.regions[r].region = None;
                let origin = Origin::Adopted { pages };
                let (id, region) = self.make_region(&origin);
                self.regions[r] = Pages { origin, id, region: Some(region) };
                Ok(Outcome::Done)
            }
            Op::DropRegion { region } => {
                let r = region % self.regions.len();
                let Pages { origin, id, .. } = self.regions[r].clone();
                let kept =
                    self.handles.iter().any(|handle| handle.region == id) || self.is_kept_aside(id);
                // The pool of huge pages need not hold a second region while ties keep the first.
                if kept && self.oracle.regions[id].huge {
                    return Ok(Outcome::Idle);
                }
                self.regions[r].region = None;
                let (id, region) = self.make_region(&origin);
                self.regions[r] = Pages { origin, id, region: Some(region) };
                Ok(Outcome::Done)
            }
            Op::DropSpace { space } => {
                let s = space % self.places.len();
                self.drop_space(s)?;
                if self.places[s].memory.is_some() {
                    self.oracle.spaces[s].len = self.places[s].first_len;
                    self.places[s].space = Some(self.borrow(s));
                } else {
                    let pages = &mut self.oracle.spaces[s].pages;
                    pages.fill(Page::zero(Prot::None));
                    let space = Space::reserve(pages.len() * unit).expect("a reserved space");
                    self.places[s].start = space.as_ptr().expose_provenance();
                    self.places[s].space = Some(space);
                }
                Ok(Outcome::Done)
            }
            Op::Park { tie } => self.park(tie),
            Op::Resume { parked, space, at, skew } => self.resume(parked, space, at, skew),
            Op::DropParked { parked } => Ok(self.drop_parked(parked)),
            Op::DiscardMany { space, ref runs } => self.discard_many(space, runs),
            Op::Collapse { region } => self.collapse(region),
            Op::Window { space, ref tie } => self.window(space, tie),
            Op::Show { window, ref bytes } => self.show(window, bytes),
            Op::Prepare { window, ref bytes } => self.prepare(window, bytes),
            Op::UntieWindow { window } => self.untie_window(window),
            Op::DropWindow { window } => Ok(self.drop_window(window)),
        }
    }

    pub fn enter<T>(
        &mut self,
        outcome: Result<T, ErrorKind>,
        pairs: impl FnOnce(T) -> Vec<(TieId, Tie)>,
    ) -> Result<Outcome, Differs> {
        match outcome {
            Ok(both) => {
                for (id, tie) in pairs(both) {
                    let region = self.oracle.live(id).expect("just tied").1.region;
                    self.handles.push(Handle { id, tie, region });
                }
                Ok(Outcome::Done)
            }
            Err(kind) => Ok(Outcome::Refused(kind)),
        }
    }

    /// A page number as drawn, in a world with fewer pages.
    pub fn page(&self, drawn: usize) -> usize {
        if self.unit == common::page() { drawn } else { drawn % 7 }
    }

    pub fn offset(&self, drawn: usize) -> usize {
        if self.unit == common::page() { drawn } else { drawn % 4 }
    }

    pub fn space(&self, s: usize) -> &Space {
        self.places[s].space.as_ref().expect("spaces are there until the end")
    }

    /// The handle of a region that is open now.
    pub fn region_of(&self, id: RegionId) -> Region {
        let pages = self.regions.iter().find(|pages| pages.id == id);
        let region = pages.and_then(|pages| pages.region.as_ref());
        region.expect("regions are there until the end").clone()
    }

    fn writer(&self, writer: Writer) -> Option<(Region, RegionId)> {
        match writer {
            Writer::Region(region) => {
                let id = self.regions[region % self.regions.len()].id;
                Some((self.region_of(id), id))
            }
            Writer::OfTie(tie) => {
                let handle = &self.handles[self.handle(tie)?];
                Some((handle.tie.region().clone(), handle.region))
            }
        }
    }

    pub fn handle(&self, drawn: usize) -> Option<usize> {
        if self.handles.is_empty() { None } else { Some(drawn % self.handles.len()) }
    }

    /// Enough to be off a page: of huge pages, a page of the system.
    pub fn skew(&self, region: RegionId) -> usize {
        if self.oracle.regions[region].huge { common::page() } else { 1 }
    }

    pub fn asked(&self, tie: &TieArgs) -> Asked {
        let region = self.regions[tie.region % self.regions.len()].id;
        let (unit, skew) = (self.unit, self.skew(region));
        let mut asked = Asked {
            at: self.page(tie.at) * unit,
            region,
            offset: self.offset(tie.offset) * unit,
            len: tie.pages * unit,
            access: tie.access,
            covered: tie.covered,
            prefault: tie.prefault,
            concurrent: tie.concurrent && has_userfaultfd(),
        };
        match tie.skew {
            Skew::None => {}
            Skew::At => asked.at += skew,
            Skew::Offset => asked.offset += skew,
            Skew::Len => {
                // To the very end of a file is no misalignment, and is wanted most.
                let len = self.oracle.regions[region].len;
                let last = len.next_multiple_of(unit);
                if asked.offset < len && asked.offset + asked.len >= last {
                    asked.len = len - asked.offset;
                } else {
                    asked.len += skew;
                }
            }
            Skew::AtAndLen => (asked.at, asked.len) = (asked.at + skew, asked.len + skew),
            Skew::FarAt => asked.at = usize::MAX - unit + 1,
            Skew::FarOffset => asked.offset = 1 << 62,
        }
        asked
    }

    pub fn run_in_space(&self, s: usize, run: &Run) -> (usize, usize) {
        let at = self.page(run.at);
        let huge = |page| {
            let tie = self.oracle.tied(s, page);
            tie.is_some_and(|tie| self.oracle.regions[tie.region].huge)
        };
        let mut bytes = (at * self.unit, run.pages * self.unit);
        if run.skew == Skew::AtAndLen && run.pages == 1 && huge(at) {
            // Whole pages of the system, and not of the tie.
            return (bytes.0 + common::page(), bytes.1 - common::page());
        }
        skew_run(&mut bytes, run.skew);
        bytes
    }

    fn run_in_region(&self, region: RegionId, run: &Run) -> (usize, usize) {
        let mut bytes = (self.page(run.at) * self.unit, run.pages * self.unit);
        let len = self.oracle.regions[region].len;
        let last = len.next_multiple_of(self.unit);
        if run.skew == Skew::Len && bytes.0 < len && bytes.0 + bytes.1 >= last {
            return (bytes.0, len - bytes.0);
        }
        skew_run(&mut bytes, run.skew);
        bytes
    }

    /// The guest's store.
    pub fn store(&mut self, s: usize, page: usize, slot: usize, word: u64) {
        let start = self.places[s].start + page * self.unit;
        // SAFETY: the oracle, with which the kernel agreed after the last step, has the page
        // writable; it is this case's own.
        let poke = |addr, word| unsafe {
            ptr::with_exposed_provenance_mut::<u64>(addr).write_volatile(word);
        };
        if matches!(self.oracle.spaces[s].pages[page].source, Source::Private(..)) {
            // The kernel copies pages of the system; the oracle's may be larger.
            for addr in (start..start + self.unit).step_by(common::page()) {
                poke(addr, peek(addr));
            }
        }
        poke(start + slot_offset(self.unit, slot), word);
        self.oracle.store(s, page, slot, word);
    }

    pub fn owner_protect(&mut self, s: usize, pages: Range<usize>, prot: Prot) {
        let start = self.places[s].start;
        let range = start + pages.start * self.unit..start + pages.end * self.unit;
        common::mprotect(range, bits(prot));
        self.oracle.protect_behind(s, pages, prot);
    }

    fn give_back(&mut self, i: usize, drops: bool) -> Result<(), Differs> {
        let (id, loan) = self.loans.remove(i);
        match drops {
            true => drop(loan),
            false => {
                loan.give_back().map_err(|error| format!("giving back was refused: {error}"))?;
            }
        }
        self.oracle.give_back(id);
        Ok(())
    }

    fn drop_tie(&mut self, i: usize) {
        let Handle { id, tie, .. } = self.handles.remove(i);
        drop(tie);
        self.oracle.untie(id);
    }

    /// Drops a space; borrowed memory must be what it was before, or has become since.
    fn drop_space(&mut self, s: usize) -> Result<(), Differs> {
        self.places[s].space = None;
        self.oracle.untie_all(s);
        self.oracle.spaces[s].pages.iter_mut().for_each(|page| page.forbidden = None);
        self.check_memory(s)
    }

    // --------------------------------------------------------------------------- the end

    /// Drops everything that is left in an order drawn from `drops`, and compares after each.
    pub fn finish(mut self, drops: u32) -> Result<(), Differs> {
        enum Last {
            Tie(usize),
            Loan(usize),
            Window(usize),
            Parked(usize),
            Region(usize),
            Space(usize),
        }
        let mut random = drops;
        loop {
            let present = |i: usize, is: bool| is.then_some(i);
            let ties = (0..self.handles.len()).map(Last::Tie);
            let loans = (0..self.loans.len()).map(Last::Loan);
            let regions = self.regions.iter().enumerate();
            let regions = regions.filter_map(|(i, one)| present(i, one.region.is_some()));
            let spaces = self.places.iter().enumerate();
            let spaces = spaces.filter_map(|(i, one)| present(i, one.space.is_some()));
            let mut left: Vec<_> = ties
                .chain(loans)
                .chain(regions.map(Last::Region))
                .chain(spaces.map(Last::Space))
                .collect();
            left.extend((0..self.panes.len()).map(Last::Window));
            left.extend((0..self.parked.len()).map(Last::Parked));
            if left.is_empty() {
                break;
            }
            random = random.wrapping_mul(1_664_525).wrapping_add(drops);
            match left.swap_remove((random >> 16) as usize % left.len()) {
                Last::Tie(i) => self.drop_tie(i),
                Last::Loan(i) => self.give_back(i, true)?,
                Last::Window(i) => drop(self.drop_window(i)),
                Last::Parked(i) => drop(self.drop_parked(i)),
                Last::Region(i) => self.regions[i].region = None,
                Last::Space(i) => self.drop_space(i)?,
            }
            self.step += 1;
            self.check().map_err(|differs| format!("while all is dropped: {differs}"))?;
        }
        self.check_bytes_left().map_err(|differs| format!("after all was dropped: {differs}"))
    }
}

pub fn options(asked: &Asked) -> TieOptions {
    TieOptions::new(asked.access)
        .covered(asked.covered)
        .prefault(asked.prefault)
        .concurrent(asked.concurrent)
}

fn spec<'r>(asked: &Asked, region: &'r Region) -> TieSpec<'r> {
    let range = asked.offset..asked.offset.saturating_add(asked.len);
    TieSpec { at: asked.at, region, range, options: options(asked) }
}

fn skew_run(bytes: &mut (usize, usize), skew: Skew) {
    match skew {
        Skew::None | Skew::Offset => {}
        Skew::At => bytes.0 += 1,
        Skew::Len => bytes.1 += 1,
        Skew::AtAndLen => *bytes = (bytes.0 + 1, bytes.1 + 1),
        Skew::FarAt | Skew::FarOffset => bytes.0 = 1 << 62,
    }
}

pub fn outcome_of<T>(outcome: &Result<T, ErrorKind>) -> Outcome {
    match outcome {
        Ok(_) => Outcome::Done,
        Err(kind) => Outcome::Refused(*kind),
    }
}

fn bits(prot: Prot) -> i32 {
    match prot {
        Prot::ReadWrite => PROT_READ | PROT_WRITE,
        Prot::Read => PROT_READ,
        _ => PROT_NONE,
    }
}
