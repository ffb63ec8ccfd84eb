//! `protect`: what addresses allow, tied or not.
//!
//! Source: mprotect(2).

#![allow(unsafe_code, reason = "changes the protection of the space's addresses")]

use crate::discard::reset;
use crate::error::{Error, Op, Result};
use crate::ledger::{Record, Standing};
use crate::options::{Access, Prot};
use crate::page::{Extent, Pages};
use crate::space::{Shared, Space, State};
use crate::sys::{self, Call, Protection};
use std::ops::{ControlFlow, RangeBounds};
use std::sync::Arc;

impl Prot {
    const fn protection(self) -> Protection {
        match self {
            Prot::None => Protection::NONE,
            Prot::Read => Protection::READ,
            Prot::ReadWrite => Protection::READ_WRITE,
        }
    }
}

impl Space {
    /// Changes what addresses allow, in any range of pages, tied or not.
    ///
    /// A tie's access is a ceiling: read-write on a read-only tie is refused, and so it is on lent pages
    /// that their owner could only read. On a reserved space this
    /// is what makes addresses memory. Pages that are tied now keep the new protection when they are
    /// untied; [`Tie::retie`](crate::Tie::retie) resets it.
    ///
    /// # Units
    /// Bytes of the space, multiples of [`page::size()`](crate::page::size); inside ties of huge pages
    /// multiples of theirs.
    ///
    /// # Errors
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange), [`Ended`](crate::ErrorKind::Ended);
    /// - [`ReadOnly`](crate::ErrorKind::ReadOnly): above a tie's access, or a loan's;
    /// - [`NotMapped`](crate::ErrorKind::NotMapped), [`RefusedMemory`](crate::ErrorKind::RefusedMemory):
    ///   a hole, or code;
    /// - [`Changed`](crate::ErrorKind::Changed): a tie or loan in the range is not what was left there;
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory),
    ///   [`Os`](crate::ErrorKind::Os): `EACCES`, read-write on a mapping of a read-only file.
    ///
    /// On error every page allows what it did before.
    ///
    /// # Threads
    /// Takes effect page by page.
    ///
    /// # Source
    /// mprotect(2).
    #[doc(alias = "mprotect")]
    pub fn protect(&self, range: impl RangeBounds<usize>, prot: Prot) -> Result<()> {
        self.shared().protect(Extent::of(&range, self.len()), prot)
    }
}

impl Shared {
    pub(crate) fn protect(&self, extent: Extent, prot: Prot) -> Result<()> {
        let (op, shared) = (Op::Protect, self);
        let pages = shared.whole_pages(op, extent)?;
        let mut state = shared.lock(op)?;
        check_ties(shared, &state, pages, prot)?;
        shared.check_loans(&state, op, pages, prot == Prot::ReadWrite)?;
        let layout = shared.survey(&state, op, pages)?;
        for record in state.ledger.overlapping(pages) {
            let body = record.body();
            let same = |vma: &sys::Vma| body.alias.is_shown_by(vma, record.pages.start());
            let ours = |vma: &sys::Vma| {
                Pages::known(vma.start, vma.end).is_some_and(|part| part.meets(record.pages))
            };
            let known = state.beliefs.is_none() && body.standing != Standing::Stranded;
            if known && layout.iter().any(|vma| ours(vma) && !same(vma)) {
                return Err(Error::changed(op, shared.span(record.pages)));
            }
        }
        // SAFETY: inside the space, whose owner lent it (or which is ours) without references into it.
        let protect = |pages: Pages, protection| unsafe {
            sys::protect(pages.start(), pages.len(), protection)
        };
        if let Err(errno) = protect(pages, prot.protection()) {
            // It may have got halfway, or have split a mapping and no more: done whole with the ballast
            // off and then taken back, mappings merge again.
            let _ = shared.process.ballast().sparing(|| {
                let whole = protect(pages, prot.protection());
                for vma in layout.iter() {
                    if let Some(part) = Pages::known(vma.start, vma.end) {
                        protect(part, vma.protection)?;
                    }
                }
                whole
            });
            return Err(shared.process.failed(op, shared.span(pages), Call::Mprotect, errno));
        }
        if let Some(beliefs) = &mut state.beliefs {
            beliefs.note(pages, prot.protection());
        }
        if shared.is_borrowed() {
            state.restrictions.note(pages, prot.protection());
        }
        Ok(())
    }

    /// Forbids again what `protect` and read-only ties forbid, where the engine has allowed it since.
    pub(crate) fn protect_again(&self, state: &State, op: Op) -> Result<()> {
        let mut wanted: Vec<(Pages, Protection)> = state.restrictions.all().collect();
        for record in state.ledger.all() {
            let body = record.body();
            if body.alias.options.access != Access::ReadOnly || body.standing == Standing::Stray {
                continue;
            }
            let mut left = Some(record.pages);
            for own in state.restrictions.within(record.pages) {
                let Some(rest) = left else { break };
                wanted.extend(
                    Pages::known(rest.start(), own.start()).map(|gap| (gap, Protection::READ)),
                );
                left = Pages::known(own.end(), rest.end());
            }
            wanted.extend(left.map(|rest| (rest, Protection::READ)));
        }
        let maps = self.maps(op)?;
        let mut result = Ok(());
        for (pages, protection) in wanted {
            let (mut loose, mut private) = (Vec::new(), Vec::new());
            let asked = maps.visit(pages.start(), pages.end(), |vma| {
                let now = vma.protection;
                let part = Pages::known(vma.start.max(pages.start()), vma.end.min(pages.end()));
                let mut ours = |record: &Arc<Record>| {
                    let body = record.body();
                    let ours = body.alias.is_shown_by(vma, record.pages.start());
                    if ours && now.exceeds(body.alias.protection()) {
                        let tied = part.and_then(|part| part.intersection(record.pages));
                        private.extend(tied.map(|tied| (Arc::clone(record), tied)));
                    }
                    ours
                };
                loose.extend(part.filter(|&part| {
                    // Not where somebody else's pages lie over a tie.
                    now.exceeds(protection)
                        && !now.executable()
                        && state.ledger.overlapping(part).all(&mut ours)
                }));
                ControlFlow::Continue(())
            });
            let mut done = asked.map_err(|errno| (Call::ProcMaps, errno));
            for part in loose {
                // SAFETY: inside the space, whose owner lent it without references into it.
                let protect = || unsafe { sys::protect(part.start(), part.len(), protection) };
                done = done.and(protect().map_err(|errno| (Call::Mprotect, errno)));
            }
            // What was stored into a read-only tie meanwhile is private, and hides the region's bytes.
            for (record, tied) in private {
                // SAFETY: a part of a read-only tie, whose pages the kernel just named as ours; the space's
                // lock is held (`state`), and nobody may have written to them.
                record.body().loosened |= unsafe { reset(tied) }.is_err();
            }
            let failed = |(call, errno)| self.process.failed(op, self.span(pages), call, errno);
            result = result.and(done.map_err(failed));
        }
        result
    }
}

/// Refuses what is above a tie's access, and parts of huge pages.
fn check_ties(shared: &Shared, state: &State, pages: Pages, prot: Prot) -> Result<()> {
    for record in state.ledger.overlapping(pages) {
        let body = record.body();
        if let Some(part) = record.pages.intersection(pages) {
            check_huge(shared, Op::Protect, &body.alias.region, part)?;
        }
        if prot == Prot::ReadWrite && body.alias.options.access == Access::ReadOnly {
            return Err(Error::read_only_tie(
                Op::Protect,
                shared.span(pages),
                shared.span(record.pages),
            ));
        }
    }
    Ok(())
}

/// Refuses a part of a tie that ends inside a huge page.
pub(crate) fn check_huge(
    shared: &Shared,
    op: Op,
    region: &crate::Region,
    part: Pages,
) -> Result<()> {
    let bounds = shared.page_bounds(op, region.page_size());
    let span = shared.span(part);
    bounds.aligned(span.start, part.len())?;
    bounds.aligned(span.end, 0)
}
