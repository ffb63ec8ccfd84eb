//! Parked aliases, windows, lists of discards and huge pages made by hand: both sides of each.
//!
//! Where a window begins is the crate's choice. The docs promise that what was asked for is visible, and
//! that [`Window::shown`] says what is: the oracle takes that answer, and every page is compared with it.

use super::check::agree;
use super::ops::{Bytes, Run, Skew, TieArgs};
use super::oracle::{Asked, Oracle, Page, Refusal, RegionId, Tie, TieId, allowed, refuse_if};
use super::world::{Differs, Handle, Outcome, World, options, outcome_of};
use crate::common;
use pagetie::{Access, ErrorKind, Parked, Prefault, Window};
use std::ops::Range;

/// What an alias takes along, off its addresses.
#[derive(Clone, Debug)]
pub struct Aside {
    /// As which tie it comes back, but for its place.
    pub asked: Asked,
    /// What it shows, private pages included.
    pub pages: Vec<Page>,
}

#[derive(Debug)]
pub struct Pane {
    pub id: TieId,
    pub window: Window,
    pub region: RegionId,
}

// ------------------------------------------------------------------------------ the oracle

impl Oracle {
    /// What was covered comes back as after an untie.
    pub fn park(&mut self, id: TieId) -> Result<(), Refusal> {
        let (s, tie) = self.live(id).ok_or(ErrorKind::Ended)?;
        let Tie { region, offset, access, .. } = *tie;
        let prot = allowed(access);
        let pages = self.spaces[s].pages[tie.range()].iter().map(|page| Page {
            prot,
            forbidden: None,
            ..*page
        });
        let pages: Vec<_> = pages.collect();
        let (offset, len) = (offset * self.unit, pages.len() * self.unit);
        let asked = Asked { region, offset, len, ..tie.asked.clone() };
        self.untie(id);
        self.parked.push(Aside { asked, pages });
        Ok(())
    }

    /// Private pages that were written while protections between them differed can stay mappings apart,
    /// which are not parked: whether they merge is the kernel's affair.
    pub fn may_stay_apart(&self, id: TieId) -> bool {
        self.live(id).is_some_and(|(s, tie)| {
            let pages = &self.spaces[s].pages[tie.range()];
            pages.iter().filter(|page| page.private.is_some()).count() > 1
        })
    }

    /// A tie like any other, but that its pages are those that were parked.
    pub fn resume(&mut self, parked: usize, s: usize, at: usize) -> Result<TieId, Refusal> {
        let Aside { asked, pages } = self.parked[parked].clone();
        let id = self.tie(s, &Asked { at, ..asked })?;
        let first = at / self.unit;
        self.spaces[s].pages[first..first + pages.len()].copy_from_slice(&pages);
        self.parked.remove(parked);
        Ok(id)
    }

    /// A tie of the region's start, cut to the region's length.
    pub fn window(&mut self, s: usize, asked: &Asked) -> Result<TieId, Refusal> {
        let page = self.regions[asked.region].page;
        self.check_numbers(s, asked.at, asked.len, page)?;
        let len = asked.len.min(self.regions[asked.region].len.next_multiple_of(page));
        self.tie(s, &Asked { offset: 0, len, ..asked.clone() })
    }

    /// Whether the pages of a range fit into a window of `len` bytes.
    pub fn fits(&self, region: RegionId, len: usize, range: &Range<usize>) -> Result<(), Refusal> {
        let region = &self.regions[region];
        refuse_if(range.is_empty(), ErrorKind::Empty)?;
        refuse_if(range.end > region.len, ErrorKind::OutOfRange)?;
        let first = range.start / region.page * region.page;
        refuse_if(range.end.next_multiple_of(region.page) - first > len, ErrorKind::OutOfRange)
    }

    /// Each of the list, or none. Each kind of refusal is looked for in every item before the next.
    pub fn discard_many(
        &mut self,
        s: usize,
        list: &[(usize, usize)],
        base: usize,
    ) -> Result<(), Refusal> {
        for (index, &(at, len)) in list.iter().enumerate() {
            self.check_numbers(s, at, len, base)
                .map_err(|refusal| Refusal { items: vec![index], ..refusal })?;
        }
        let refused = |&(at, len): &(usize, usize)| self.check_discard(s, at, len, base).err();
        let refused: Vec<_> = list.iter().map(refused).collect();
        for kind in [ErrorKind::Misaligned, ErrorKind::ReadOnly, ErrorKind::Unsupported] {
            let is_so =
                |i: &usize| refused[*i].as_ref().is_some_and(|refusal| refusal.kind == kind);
            let items: Vec<_> = (0..list.len()).filter(is_so).collect();
            if !items.is_empty() {
                return Err(Refusal { items, ..kind.into() });
            }
        }
        list.iter().try_for_each(|&(at, len)| self.discard(s, at, len, base))
    }
}

// ------------------------------------------------------------------------------ both

impl World<'_> {
    pub fn park(&mut self, tie: usize) -> Result<Outcome, Differs> {
        let Some(i) = self.handle(tie) else { return Ok(Outcome::Idle) };
        let Handle { id, tie, region } = self.handles.remove(i);
        let found = match tie.park() {
            Ok(parked) => Ok(parked),
            Err(failed) => {
                self.handles.push(Handle { id, tie: failed.tie, region });
                Err(failed.error)
            }
        };
        if let Err(error) = &found {
            if error.kind() == ErrorKind::Unsupported && self.oracle.may_stay_apart(id) {
                return Ok(Outcome::Refused(error.kind()));
            }
        }
        let outcome = agree(self.oracle.park(id), found)?;
        let outcome = outcome.map(|((), parked)| self.parked.push(parked));
        Ok(outcome_of(&outcome))
    }

    pub fn resume(
        &mut self,
        parked: usize,
        space: usize,
        at: usize,
        skew: Skew,
    ) -> Result<Outcome, Differs> {
        if self.parked.is_empty() {
            return Ok(Outcome::Idle);
        }
        let (p, s) = (parked % self.parked.len(), space % self.places.len());
        let region = self.oracle.parked[p].asked.region;
        let at = match skew {
            Skew::At => self.page(at) * self.unit + self.skew(region),
            Skew::FarAt => usize::MAX - self.unit + 1,
            _ => self.page(at) * self.unit,
        };
        let parked = self.parked.remove(p);
        let found = match parked.resume(self.space(s), at) {
            Ok(tie) => Ok(tie),
            Err(failed) => {
                self.parked.insert(p, failed.parked);
                Err(failed.error)
            }
        };
        let expected = self.oracle.resume(p, s, at);
        self.enter(agree(expected, found)?, |both| vec![both])
    }

    pub fn drop_parked(&mut self, parked: usize) -> Outcome {
        if self.parked.is_empty() {
            return Outcome::Idle;
        }
        let p = parked % self.parked.len();
        drop(self.parked.remove(p));
        self.oracle.parked.remove(p);
        Outcome::Done
    }

    pub fn discard_many(&mut self, space: usize, runs: &[Run]) -> Result<Outcome, Differs> {
        let s = space % self.places.len();
        let list: Vec<_> = runs.iter().map(|run| self.run_in_space(s, run)).collect();
        let ranges: Vec<_> = list.iter().map(|&(at, len)| at..at + len).collect();
        let found = self.space(s).discard_many(&ranges);
        let expected = self.oracle.discard_many(s, &list, common::page());
        Ok(outcome_of(&agree(expected, found)?))
    }

    /// No byte changes, whatever becomes huge.
    pub fn collapse(&mut self, region: usize) -> Result<Outcome, Differs> {
        let id = self.regions[region % self.regions.len()].id;
        let region = self.region_of(id);
        let huge = region.collapse().map_err(|error| format!("collapse was refused: {error}"))?;
        let all = self.oracle.regions[id].huge;
        if huge > region.len() || huge % common::HUGE != 0 || all && huge != region.len() {
            return Err(format!("{huge:#x} bytes are huge, of {:#x}", region.len()));
        }
        Ok(Outcome::Done)
    }

    pub fn window(&mut self, space: usize, tie: &TieArgs) -> Result<Outcome, Differs> {
        let s = space % self.places.len();
        let asked = Asked { offset: 0, ..self.asked(&TieArgs { offset: 0, ..tie.clone() }) };
        let region = self.region_of(asked.region);
        let found = Window::new(self.space(s), asked.at, asked.len, &region, options(&asked));
        let expected = self.oracle.window(s, &asked);
        let outcome = agree(expected, found)?;
        let outcome =
            outcome.map(|(id, window)| self.panes.push(Pane { id, window, region: asked.region }));
        Ok(outcome_of(&outcome))
    }

    /// The bytes that are asked for; `None` where the oracle's pages are too large to tell.
    fn bytes_of(&self, pane: &Pane, bytes: &Bytes) -> Option<Range<usize>> {
        let start = self.offset(bytes.page) * self.unit + bytes.from * self.unit / Bytes::PARTS;
        let range = start..start + bytes.parts * self.unit / Bytes::PARTS;
        let page = self.oracle.regions[pane.region].page;
        let whole = start / self.unit * self.unit..range.end.next_multiple_of(self.unit);
        (page == self.unit || whole.len() <= pane.window.len()).then_some(range)
    }

    fn pane(&self, drawn: usize) -> Option<usize> {
        if self.panes.is_empty() { None } else { Some(drawn % self.panes.len()) }
    }

    pub fn show(&mut self, pane: usize, bytes: &Bytes) -> Result<Outcome, Differs> {
        let Some(i) = self.pane(pane) else { return Ok(Outcome::Idle) };
        let Some(range) = self.bytes_of(&self.panes[i], bytes) else { return Ok(Outcome::Idle) };
        let Pane { id, window, region } = &mut self.panes[i];
        let before = window.shown();
        let found = window.show(range.clone());
        let live = match self.oracle.live(*id) {
            Some(_) => Ok(()),
            None => Err(ErrorKind::Ended.into()),
        };
        let expected = self.oracle.fits(*region, window.len(), &range).and(live);
        let ((), at) = match agree(expected, found)? {
            Err(kind) => return Ok(Outcome::Refused(kind)),
            Ok(both) => both,
        };
        let (shown, inside) = (window.shown(), |shown: &Range<usize>| {
            shown.start <= range.start && range.end <= shown.end
        });
        let named = |what: &str| Err(format!("{what}: {range:x?} of {shown:x?}, at {at:#x}"));
        if !inside(&shown) {
            return named("it is not visible");
        }
        if inside(&before) && shown != before {
            return named("it was visible already");
        }
        if shown.start % self.unit != 0 || at != window.at() + (range.start - shown.start) {
            return named("it is not where it should be");
        }
        if inside(&before) {
            return Ok(Outcome::Done);
        }
        let itself = (window.at(), window.len(), window.access());
        let slid = self.oracle.retie(*id, itself, *region, shown.start);
        slid.map_err(|refusal| format!("the oracle refuses it: {refusal:?}"))?;
        Ok(Outcome::Done)
    }

    /// Nobody sees what is prepared, nor that it is.
    pub fn prepare(&mut self, pane: usize, bytes: &Bytes) -> Result<Outcome, Differs> {
        let Some(i) = self.pane(pane) else { return Ok(Outcome::Idle) };
        let Pane { id, window, region } = &self.panes[i];
        let Some(range) = self.bytes_of(&self.panes[i], bytes) else { return Ok(Outcome::Idle) };
        // Copies are made when the alias is, which is the crate's choice.
        let copies = |tie: &Tie| tie.prefault == Prefault::Copy;
        if self.oracle.live(*id).is_some_and(|(_, tie)| copies(tie)) {
            return Ok(Outcome::Idle);
        }
        let found = window.prepare(range.clone());
        let expected = self.oracle.fits(*region, window.len(), &range);
        Ok(outcome_of(&agree(expected, found)?))
    }

    pub fn untie_window(&mut self, pane: usize) -> Result<Outcome, Differs> {
        let Some(i) = self.pane(pane) else { return Ok(Outcome::Idle) };
        let Pane { id, window, .. } = self.panes.remove(i);
        window.untie().map_err(|error| format!("untie was refused: {error}"))?;
        self.oracle.untie(id);
        Ok(Outcome::Done)
    }

    pub fn drop_window(&mut self, pane: usize) -> Outcome {
        let Some(i) = self.pane(pane) else { return Outcome::Idle };
        let Pane { id, window, .. } = self.panes.remove(i);
        drop(window);
        self.oracle.untie(id);
        Outcome::Done
    }

    /// Whether something else than a handle of it keeps a region.
    pub fn is_kept_aside(&self, region: RegionId) -> bool {
        self.panes.iter().any(|pane| pane.region == region)
            || self.oracle.parked.iter().any(|parked| parked.asked.region == region)
    }

    // -------------------------------------------------------------------------- compared

    pub fn check_moves(&self) -> Result<(), Differs> {
        for (parked, model) in self.parked.iter().zip(&self.oracle.parked) {
            self.check_parked(parked, model)?;
        }
        self.panes.iter().try_for_each(|pane| self.check_pane(pane))
    }

    fn check_parked(&self, parked: &Parked, model: &Aside) -> Result<(), Differs> {
        let Asked { region, offset, len, access, .. } = model.asked;
        let found = (parked.offset(), parked.len(), parked.access(), parked.region().len());
        let expected = (offset, len, access, self.oracle.regions[region].len);
        match found == expected {
            true => Ok(()),
            false => Err(format!("{parked:?} is parked, expected {expected:x?}")),
        }
    }

    fn check_pane(&self, pane: &Pane) -> Result<(), Differs> {
        let Pane { id, window, region } = pane;
        let live = self.oracle.live(*id);
        let named = |what: String| Err(format!("the window {window:?}: {what}"));
        if window.is_live() != live.is_some() {
            return named(format!("expected live: {}", live.is_some()));
        }
        let Some((_, model)) = live else { return Ok(()) };
        let found = (window.at(), window.len(), window.shown(), window.access());
        let (start, len) = (model.offset * self.unit, model.covered.len() * self.unit);
        let end = self.oracle.regions[*region].len.min(start + len);
        let expected: (_, _, _, Access) = (model.at * self.unit, len, start..end, model.access);
        match found == expected {
            true => Ok(()),
            false => named(format!("(at, len, shown, access) {expected:x?} is expected")),
        }
    }
}
