//! `discard`: the bytes behind addresses go, through every address they have.
//!
//! What that means depends on what is there: see [`Space::discard`].
//!
//! Source: madvise(2) `MADV_DONTNEED`; fallocate(2) `FALLOC_FL_PUNCH_HOLE`.

#![allow(unsafe_code, reason = "throws away bytes at the space's addresses")]

use crate::error::{Error, Op, Result};
use crate::options::Access;
use crate::page::{Extent, Pages};
use crate::protect::check_huge;
use crate::region::Region;
use crate::space::{Shared, Space};
use crate::sys::{self, Advice, Call, Errno};
use std::ops::RangeBounds;

/// One step.
enum Step {
    /// Private pages at these addresses forget what was written to them.
    Reset(Pages),
    /// The region's pages at these offsets go back.
    Punch(Region, Pages),
}

impl Space {
    /// Throws away the bytes behind a range of addresses. Acts on the object that is there:
    ///
    /// | what is there | afterwards |
    /// |---|---|
    /// | [`Access::ReadWrite`] tie | the region's bytes read zero through every alias, and the memory goes back |
    /// | [`Access::CopyOnWrite`] tie | private changes are gone, the region's bytes show again |
    /// | [`Access::ReadOnly`] tie | refused; the host has [`Region::discard`](crate::Region::discard) |
    /// | lent pages | zeros, also when they come home; refused where their owner could only read them |
    /// | untied private memory | as the engine first mapped it: zeros, or the image under it |
    /// | untied shared memory | refused: the kernel would say yes and keep the bytes |
    ///
    /// A range may span several of these; all of it is checked before the first byte goes. What ties
    /// have covered is not touched.
    ///
    /// # Units
    /// Bytes of the space, multiples of [`page::size()`](crate::page::size); inside ties of huge pages
    /// multiples of theirs.
    ///
    /// # Errors
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange), [`Ended`](crate::ErrorKind::Ended);
    /// - [`ReadOnly`](crate::ErrorKind::ReadOnly): a read-only tie or loan;
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): untied shared memory; a region of a file without
    ///   [`RegionBuilder::allow_discard`](crate::RegionBuilder::allow_discard);
    /// - [`NotMapped`](crate::ErrorKind::NotMapped), [`RefusedMemory`](crate::ErrorKind::RefusedMemory),
    ///   [`Changed`](crate::ErrorKind::Changed);
    /// - [`Os`](crate::ErrorKind::Os): the kernel refused a step after the checks; the steps before it
    ///   are done.
    ///
    /// # Threads
    /// A thread that writes meanwhile may have its byte thrown away or kept.
    ///
    /// # Source
    /// madvise(2) `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED` (Linux 5.18); fallocate(2)
    /// `FALLOC_FL_PUNCH_HOLE`.
    #[doc(alias = "madvise")]
    #[doc(alias = "MADV_DONTNEED")]
    #[doc(alias = "FALLOC_FL_PUNCH_HOLE")]
    pub fn discard(&self, range: impl RangeBounds<usize>) -> Result<()> {
        self.shared().discard(Extent::of(&range, self.len()))
    }
}

impl Shared {
    pub(crate) fn discard(&self, extent: Extent) -> Result<()> {
        let (op, shared) = (Op::Discard, self);
        let pages = shared.whole_pages(op, extent)?;
        let state = shared.lock(op)?;
        shared.check_loans(&state, op, pages, true)?;
        let mut steps: Vec<(usize, Step)> = Vec::new();
        for record in state.ledger.overlapping(pages) {
            let body = record.body();
            let alias = &body.alias;
            let Some(part) = record.pages.intersection(pages) else {
                continue;
            };
            check_huge(shared, op, &alias.region, part)?;
            match alias.options.access {
                Access::ReadOnly => {
                    let (asked, tie) = (shared.span(pages), shared.span(record.pages));
                    return Err(Error::read_only_tie(op, asked, tie));
                }
                Access::CopyOnWrite => steps.push((part.start(), Step::Reset(part))),
                Access::ReadWrite => {
                    let offset = alias.offset + (part.start() - record.pages.start());
                    let step = Step::Punch(alias.region.clone(), part.moved_to(offset));
                    steps.push((part.start(), step));
                }
            }
        }
        for (_, step) in &steps {
            if let Step::Punch(region, _) = step {
                region.check_discard(op, shared.span(pages))?;
            }
        }
        for record in state.ledger.overlapping(pages) {
            let Some(part) = record.pages.intersection(pages) else {
                continue;
            };
            let body = record.body();
            let laid_at = record.pages.start();
            let confirmed = shared.confirm(&state, op, part, &body.alias, laid_at)?;
            if !confirmed.is_same() {
                return Err(Error::changed(op, shared.span(record.pages)));
            }
        }
        for gap in state.ledger.gaps(pages) {
            if shared.survey(&state, op, gap)?.iter().any(|vma| vma.shared) {
                let why = "untied shared memory cannot be discarded: \
                           the kernel would say yes and keep the bytes";
                return Err(Error::unsupported(op, why, None));
            }
            steps.push((gap.start(), Step::Reset(gap)));
        }
        steps.sort_by_key(|(addr, _)| *addr);
        for step in merged(steps.into_iter().map(|(_, step)| step)) {
            let done = match &step {
                Step::Reset(pages) => reset(*pages).map_err(|errno| (Call::Madvise, errno)),
                Step::Punch(region, pages) => {
                    region.punch(*pages).map_err(|errno| (Call::Fallocate, errno))
                }
            };
            done.map_err(|(call, errno)| {
                shared.process.failed(op, shared.span(pages), call, errno)
            })?;
        }
        Ok(())
    }
}

/// Steps that continue each other become one.
fn merged(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::new();
    for step in steps {
        match (merged.last_mut(), &step) {
            (Some(Step::Reset(last)), Step::Reset(next)) if last.end() == next.start() => {
                *last = last.joined_with(*next);
            }
            (Some(Step::Punch(region, last)), Step::Punch(same, next))
                if region.is_same(same) && last.end() == next.start() =>
            {
                *last = last.joined_with(*next);
            }
            _ => merged.push(step),
        }
    }
    merged
}

/// Private pages forget what was written to them, locked or not.
fn reset(pages: Pages) -> Result<(), Errno> {
    // SAFETY: inside the space, whose owner lent it (or which is ours) without references into it; its
    // bytes are what the caller wants to be rid of.
    let advise = |advice| unsafe { sys::advise(pages.start(), pages.len(), advice) };
    match advise(Advice::DontNeed) {
        // Some of it is locked.
        Err(Errno::INVAL) => match advise(Advice::DontNeedLocked) {
            // Before Linux 5.18.
            Err(Errno::INVAL) => reset_locked(pages),
            done => done,
        },
        done => done,
    }
}

/// Page by page, since neighbours may be locked or not.
fn reset_locked(pages: Pages) -> Result<(), Errno> {
    for page in pages.each() {
        let locked = sys::is_locked(page.start(), page.len())?;
        if locked {
            sys::unlock(page.start(), page.len())?;
        }
        // SAFETY: as in `reset`.
        let done = unsafe { sys::advise(page.start(), page.len(), Advice::DontNeed) };
        if locked {
            sys::lock(page.start(), page.len())?;
        }
        done?;
    }
    Ok(())
}
