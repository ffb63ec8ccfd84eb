//! [`Lent`]: the record of a loan, and how its pages go home.
//!
//! The kernel is asked first, at both ends. Pages that somebody replaced in the space are gone, and are let
//! go of; all others go home, even then. What a piece covered comes back once it is home: until then its
//! place shows what is left where pages were moved away, zeros. So the pages are never at an address that
//! is about to be mapped over.

#![allow(unsafe_code, reason = "moves lent pages over the addresses they came from")]

use crate::alias::Failed;
use crate::error::{Error, Op, Result};
use crate::inspect::{self, NoLayout};
use crate::keep::{Cover, Protections, Return};
use crate::list::OneOrMore;
use crate::page::{self, Pages};
use crate::process::Process;
use crate::space::{Shared, State};
use crate::sys::{self, Call, Errno, Maps, Protection, Vma};
use rangemap::RangeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The loans of a space, by addresses of the space. None meets another, or a tie.
#[derive(Debug, Default)]
pub(crate) struct Loans {
    records: RangeMap<usize, Arc<Lent>>,
}

/// One loan.
#[derive(Debug)]
pub(crate) struct Lent {
    /// Its addresses in the space, for good.
    pub pages: Pages,
    /// The addresses that its pages came from.
    pub home: Pages,
    /// A [`Fate`].
    fate: AtomicU8,
    body: Mutex<Body>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Fate {
    Live,
    /// It ended, and its pages are home or lost.
    Home,
    /// The space is gone, and the pages are where they were in it.
    Left,
}

/// What changes in the life of a loan.
#[derive(Debug)]
pub(crate) struct Body {
    /// What is not home yet, in the order of addresses.
    pub pieces: Vec<Piece>,
    /// What is aside; one, unless a part of the place was replaced.
    covers: Vec<Cover>,
    /// What the place allowed when its pages went home, [`UNCHANGED`] where that was what they had.
    allowed: Vec<(Pages, Protection)>,
    /// From the first to the last page that somebody replaced in the space.
    lost: Option<Pages>,
}

/// Pages that came from one mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub home: Pages,
    pub place: Pages,
    /// What its addresses allowed at home.
    pub protection: Protection,
    pub locked: bool,
}

/// Stands for "as lent". No page is lent with this one, since executable memory is refused.
const UNCHANGED: Protection = Protection::new(false, false, true);

impl PartialEq for Lent {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Lent {}

impl Body {
    pub fn new(cover: Cover) -> Self {
        Self { pieces: Vec::new(), covers: vec![cover], allowed: Vec::new(), lost: None }
    }

    /// Takes pages off the list that are not at their place any more, and what they had covered: it would
    /// come back over somebody else's pages.
    fn let_go(&mut self, gone: Pages) {
        for mut cover in std::mem::take(&mut self.covers) {
            let mut within = cover.split_off(gone.start());
            let after = within.split_off(gone.end());
            self.covers.extend([cover, after].into_iter().filter(|part| part.left().is_some()));
        }
        self.pieces = self.pieces.iter().flat_map(|piece| piece.without(gone)).collect();
        self.lost = Some(self.lost.map_or(gone, |lost| lost.hull(gone)));
    }

    fn note_allowed(&mut self, part: Pages, now: Protection, lent: Protection) {
        // What is noted was seen before an earlier try changed it.
        if !self.allowed.iter().any(|(noted, _)| noted.meets(part)) {
            let allowed = if now == lent { UNCHANGED } else { now };
            self.allowed.push((part, allowed));
        }
    }
}

impl Piece {
    fn part(&self, place: Pages) -> Self {
        let home = place.moved_to(self.home.start() + (place.start() - self.place.start()));
        Self { home, place, ..*self }
    }

    /// What is left of it outside of a range of the space.
    fn without(&self, gone: Pages) -> impl Iterator<Item = Self> + use<> {
        let piece = *self;
        let before = Pages::known(piece.place.start(), gone.start().min(piece.place.end()));
        let after = Pages::known(gone.end().max(piece.place.start()), piece.place.end());
        [before, after].into_iter().flatten().map(move |place| piece.part(place))
    }
}

impl Lent {
    pub fn new(pages: Pages, home: Pages, body: Body, live: bool) -> Self {
        let fate = if live { Fate::Live } else { Fate::Home };
        Self { pages, home, fate: AtomicU8::new(fate as u8), body: Mutex::new(body) }
    }

    /// Whether it has not ended. No lock is taken.
    pub fn is_live(&self) -> bool {
        self.fate.load(Ordering::Acquire) == Fate::Live as u8
    }

    pub fn is_home(&self) -> bool {
        self.fate.load(Ordering::Acquire) == Fate::Home as u8
    }

    fn set(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Release);
    }

    /// For who holds the space's lock.
    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings all pages home, and then back what they covered. On error, but for a range that is lost and
    /// for a lock, what is not back yet is still on the lists.
    pub fn come_home(
        &self,
        shared: &Shared,
        state: &mut State,
        op: Op,
        insist_on_locks: bool,
    ) -> Result<(), Stuck> {
        let process = shared.process;
        let mut body = self.body();
        let maps = shared.maps(op).map_err(Stuck::Wait)?;
        let asked = |errno| Stuck::Wait(Error::os(op, Call::ProcMaps, errno, self.home.into()));
        for piece in &body.pieces {
            if Plain::ask(maps, piece.home).map_err(asked)?.other.is_some() {
                return Err(Stuck::Wait(Error::changed(op, piece.home.into())));
            }
        }
        for piece in body.pieces.clone() {
            for gone in Plain::ask(maps, piece.place).map_err(asked)?.other.into_iter().flatten() {
                body.let_go(gone);
            }
        }
        let mut missing = Missing::default();
        loop {
            body.uncover(shared, state, op, maps, insist_on_locks, &mut missing)?;
            let Some(&piece) = body.pieces.first() else { break };
            let moved = body.move_home(process, maps, piece, insist_on_locks, &mut missing);
            moved.map_err(|(call, errno)| {
                // So that nobody else is given the addresses.
                shared.fill_holes(piece.home);
                Stuck::Wait(process.failed(op, shared.span(self.pages), call, errno))
            })?;
        }
        match (body.lost, missing) {
            (Some(lost), _) => Err(Stuck::Over(Error::lost(op, shared.span(lost)))),
            (_, Missing { covered: Some(part), .. }) => {
                Err(Stuck::Over(Error::changed(op, shared.span(part))))
            }
            (_, Missing { lock: Some((call, errno)), .. }) => {
                Err(Stuck::Over(process.failed(op, shared.span(self.pages), call, errno)))
            }
            (None, Missing { covered: None, lock: None }) => Ok(()),
        }
    }
}

/// What cannot be had, although the loan ends.
#[derive(Debug, Default)]
struct Missing {
    /// A part of the place where something else lies than what an earlier try left there: what it had
    /// covered.
    covered: Option<Pages>,
    /// The lock of pages that are home, or covered ones that are back.
    lock: Option<Failed>,
}

/// Why a loan did not end well.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// It has not ended: something is still on its lists.
    Wait(Error),
    /// It has ended, and this is what is missing.
    Over(Error),
}

/// How covered pages come back: with what the place allowed last, where that was changed.
fn comes_back<'a>(
    state: &'a mut State,
    allowed: Option<&'a Protections>,
    insist_on_locks: bool,
) -> Return<'a> {
    Return {
        now: allowed,
        laid: UNCHANGED,
        zeros: state.zeros,
        beliefs: state.beliefs.as_mut(),
        undoing: false,
        insist_on_locks,
    }
}

impl Body {
    /// Brings back what was covered in front of the first piece that is not home: piece after piece, since
    /// pages at home may be a mapping more each, and covered ones that are back one less.
    fn uncover(
        &mut self,
        shared: &Shared,
        state: &mut State,
        op: Op,
        maps: &Maps,
        insist_on_locks: bool,
        missing: &mut Missing,
    ) -> Result<(), Stuck> {
        let end = self.pieces.first().map_or(usize::MAX, |piece| piece.place.start());
        while let Some(left) = self.covers.first().map(Cover::left) {
            let Some(left) = left else {
                self.covers.remove(0);
                continue;
            };
            if left.start() >= end {
                break;
            }
            if left.end() > end {
                let rest = self.covers[0].split_off(end);
                self.covers.insert(1, rest);
                continue;
            }
            let asked =
                |errno| Stuck::Wait(Error::os(op, Call::ProcMaps, errno, shared.span(left)));
            let others = Plain::ask(maps, left).map_err(asked)?.other;
            if others.is_some_and(|others| others.iter().any(|part| !is_hole(maps, *part))) {
                missing.covered = Some(left);
                self.covers.remove(0);
                continue;
            }
            let allowed = self.allowed.iter().filter(|(part, _)| part.meets(left)).copied();
            let allowed = OneOrMore::collect(allowed);
            let how = comes_back(state, allowed.as_ref(), insist_on_locks);
            // SAFETY: at `left` lies what moving the pages home left there, as the kernel just said, or a
            // hole of ours; by `lend`'s promise no reference into it lives.
            if let Err((call, errno)) = unsafe { self.covers[0].bring_back(how) } {
                if self.covers[0].left().is_some() {
                    shared.fill_holes(left);
                    return Err(Stuck::Wait(shared.process.failed(
                        op,
                        shared.span(left),
                        call,
                        errno,
                    )));
                }
                missing.lock.get_or_insert((call, errno));
            }
        }
        Ok(())
    }

    /// Moves the first piece home, mapping by mapping; what is home is off the list.
    fn move_home(
        &mut self,
        process: &Process,
        maps: &Maps,
        piece: Piece,
        insist_on_locks: bool,
        missing: &mut Missing,
    ) -> Result<(), Failed> {
        let ballast = process.ballast();
        let layout =
            || inspect::layout(maps, piece.place).map_err(|none| (Call::ProcMaps, none.errno()));
        let (place, len) = (piece.place.start(), piece.place.len());
        let mut changed = false;
        for vma in layout()?.iter() {
            changed |= vma.protection != piece.protection;
            if let Some(part) = Pages::known(vma.start, vma.end) {
                self.note_allowed(part, vma.protection, piece.protection);
            }
        }
        if changed {
            // SAFETY: the lent pages, which allow what they did at home again; no reference into them lives.
            let protect = || unsafe { sys::protect(place, len, piece.protection) };
            ballast.sparing(protect).map_err(|errno| (Call::Mprotect, errno))?;
        }
        if piece.locked && insist_on_locks {
            // Whether they may be locked, while a refusal changes nothing. Moved while locked they would take
            // the locks of their neighbours along.
            let locks = ballast.sparing(|| sys::lock(place, len));
            locks.map_err(|errno| (Call::Mlock, errno))?;
            let unlocks = ballast.sparing(|| sys::unlock(place, len));
            unlocks.map_err(|errno| (Call::Munlock, errno))?;
        }
        for vma in layout()?.iter() {
            let Some(part) = Pages::known(vma.start, vma.end) else { continue };
            let Piece { home, .. } = piece.part(part);
            // SAFETY: one mapping, of pages that came from `home`, where nothing but what they left is, as
            // the kernel was asked a moment ago; no reference into either lives, by `lend`'s promise.
            let moved = ballast
                .sparing(|| unsafe { sys::move_over(part.start(), part.len(), home.start()) });
            moved.map_err(|errno| (Call::Mremap, errno))?;
            match Pages::known(part.end(), piece.place.end()) {
                Some(rest) => self.pieces[0] = piece.part(rest),
                None => drop(self.pieces.remove(0)),
            }
            if piece.locked {
                let locks = ballast.sparing(|| sys::lock(home.start(), home.len()));
                if let (Err(errno), true) = (locks, insist_on_locks) {
                    missing.lock.get_or_insert((Call::Mlock, errno));
                }
            }
        }
        Ok(())
    }
}

/// What of a range is private anonymous memory.
struct Plain {
    /// The parts that are not, holes included; `None`: all of it is plain.
    other: Option<Vec<Pages>>,
}

impl Plain {
    fn is(vma: &Vma) -> bool {
        let base = vma.page_size.is_none_or(|size| size == page::size());
        !vma.shared && vma.inode == 0 && !vma.protection.executable() && base
    }

    fn ask(maps: &Maps, pages: Pages) -> Result<Self, Errno> {
        let (mut other, mut next) = (Vec::new(), pages.start());
        maps.visit(pages.start(), pages.end(), |vma| {
            if Self::is(vma) {
                other.extend(Pages::known(next, vma.start.max(next)));
                next = vma.end.min(pages.end());
            }
            ControlFlow::Continue(())
        })?;
        other.extend(Pages::known(next, pages.end()));
        Ok(Self { other: (!other.is_empty()).then_some(other) })
    }
}

fn is_hole(maps: &Maps, pages: Pages) -> bool {
    let mut hole = true;
    let asked = maps.visit(pages.start(), pages.end(), |_| {
        hole = false;
        ControlFlow::Break(())
    });
    asked.is_ok() && hole
}

/// Ends one loan. On an error it is as live as before, but for lost pages, and where all came home and
/// could not be locked.
pub(crate) fn end(
    shared: &Shared,
    state: &mut State,
    op: Op,
    record: &Lent,
    insist_on_locks: bool,
) -> Result<()> {
    let (over, result) = match record.come_home(shared, state, op, insist_on_locks) {
        Ok(()) => (true, Ok(())),
        Err(Stuck::Over(error)) => (true, Err(error)),
        Err(Stuck::Wait(error)) => (false, Err(error)),
    };
    if over {
        record.set(Fate::Home);
        state.loans.records.remove(record.pages.range());
        shared.process.retract(record.home.into());
    }
    result
}

/// Ends every loan of a space; the first error, after all were tried.
pub(crate) fn every(
    shared: &Shared,
    state: &mut State,
    op: Op,
    insist_on_locks: bool,
) -> Result<()> {
    let records: Vec<Arc<Lent>> = state.loans.all().cloned().collect();
    let mut result = Ok(());
    for record in &records {
        result = result.and(end(shared, state, op, record, insist_on_locks));
    }
    result
}

impl Loans {
    /// The first loan that meets `pages`.
    pub fn meets(&self, pages: Pages) -> Option<&Arc<Lent>> {
        self.overlapping(pages).next()
    }

    fn overlapping(&self, pages: Pages) -> impl Iterator<Item = &Arc<Lent>> {
        self.records.overlapping(pages.range()).map(|(_, record)| record)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Lent>> {
        self.records.iter().map(|(_, record)| record)
    }

    pub fn insert(&mut self, record: &Arc<Lent>) {
        debug_assert!(self.meets(record.pages).is_none());
        self.records.insert(record.pages.range(), Arc::clone(record));
    }

    /// Where lent pages are now.
    pub fn places(&self) -> Vec<Pages> {
        let places = |record: &Arc<Lent>| -> Vec<Pages> {
            record.body().pieces.iter().map(|piece| piece.place).collect()
        };
        self.all().flat_map(places).collect()
    }

    /// The space is gone: the pages stay where they are, and what they covered is freed.
    pub fn forget(&mut self, process: &Process) {
        for record in self.all() {
            record.set(Fate::Left);
            record.body().covers.clear();
            process.retract(record.home.into());
        }
        self.records.clear();
    }
}

impl Shared {
    /// Refuses what lent pages do not allow: to be written (or thrown away) where their owner could only
    /// read them; and anything where they are not what is there.
    pub(crate) fn check_loans(
        &self,
        state: &State,
        op: Op,
        pages: Pages,
        writes: bool,
    ) -> Result<()> {
        for record in state.loans.overlapping(pages) {
            for piece in &record.body().pieces {
                let Some(part) = piece.place.intersection(pages) else { continue };
                if writes && !piece.protection.writable() {
                    let (asked, loan) = (self.span(pages), self.span(record.pages));
                    return Err(Error::read_only_loan(op, asked, loan));
                }
                let plain = Plain::ask(self.maps(op)?, part)
                    .map_err(|errno| Error::os(op, Call::ProcMaps, errno, self.span(part)))?;
                if plain.other.is_some() {
                    return Err(Error::changed(op, self.span(record.pages)));
                }
            }
        }
        Ok(())
    }
}

impl NoLayout {
    const fn errno(&self) -> Errno {
        match self {
            NoLayout::Hole(_) => Errno::NOMEM,
            NoLayout::Os(errno) => *errno,
        }
    }
}
