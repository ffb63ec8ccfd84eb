//! `discard`: the bytes behind addresses go, through every address they have.
//!
//! What that means depends on what is there: see [`Space::discard`]. Many ranges are checked tie by tie
//! rather than one by one, and become as few calls as the kernel offers.
//!
//! Source: madvise(2) `MADV_DONTNEED`; process_madvise(2); fallocate(2) `FALLOC_FL_PUNCH_HOLE`.

#![allow(unsafe_code, reason = "throws away bytes at the space's addresses")]

use crate::error::{Error, Op, Result};
use crate::ledger::Record;
use crate::options::Access;
use crate::page::{Extent, Pages};
use crate::process::Process;
use crate::protect::check_huge;
use crate::region::Region;
use crate::space::{Shared, Space, State};
use crate::sys::{self, Advice, Call, Errno};
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

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

    /// [`Space::discard`] of many ranges, in fewer system calls: neighbours in the same object become
    /// one, and scattered private pages go in batches of about a thousand a call where the kernel has
    /// that. All of them are checked before the first byte goes. They may come in any order, and overlap.
    ///
    /// # Errors
    /// Those of [`Space::discard`], with [`Error::index`] naming a range. If the kernel refuses a step
    /// after the checks, some of the others are done.
    ///
    /// # Source
    /// process_madvise(2) on the own process, Linux 6.13; one madvise(2) each before.
    #[doc(alias = "process_madvise")]
    pub fn discard_many(&self, ranges: &[Range<usize>]) -> Result<()> {
        self.shared().discard_extents(ranges.iter().map(|range| Extent::of(range, 0)))
    }
}

impl Shared {
    pub(crate) fn discard(&self, extent: Extent) -> Result<()> {
        let pages = self.whole_pages(Op::Discard, extent)?;
        self.discard_sorted(Op::Discard, &[(pages, None)], &[])
    }

    pub(crate) fn discard_extents(&self, extents: impl Iterator<Item = Extent>) -> Result<()> {
        let op = Op::DiscardMany;
        let mut items = Vec::with_capacity(extents.size_hint().0);
        for (index, extent) in extents.enumerate() {
            let pages = self.whole_pages(op, extent).map_err(|error| error.at_index(index))?;
            items.push((pages, Some(index)));
        }
        self.check_fork(op)?;
        if !items.is_sorted_by_key(|(pages, _)| pages.start()) {
            items.sort_by_key(|(pages, _)| pages.start());
        }
        // What two of them ask for goes once. An item that is cut for that is judged by its own ends.
        let (mut done, mut cut) = (0, Vec::new());
        items.retain_mut(|item| {
            let (pages, _) = *item;
            if pages.start() < done {
                cut.push(*item);
            }
            let left = Pages::known(pages.start().max(done), pages.end());
            done = done.max(pages.end());
            left.inspect(|left| item.0 = *left).is_some()
        });
        self.discard_sorted(op, &items, &cut)
    }

    /// Discards items in the order of addresses, none of which overlap: all are checked before the first byte
    /// goes. Of items that did overlap, `cut` has what was asked for.
    fn discard_sorted(&self, op: Op, items: &[Item], cut: &[Item]) -> Result<()> {
        let state = self.lock(op)?;
        for (pages, index) in items {
            let refused = self.check_loans(&state, op, *pages, true);
            refused.map_err(|error| error.of_item(*index))?;
        }
        let mut steps = Steps::default();
        let groups = groups(&state, items);
        // What is known of the ties comes before what the kernel has to be asked, wherever they lie.
        groups.iter().try_for_each(|group| group.check_whole(self, op))?;
        for item in cut {
            let one = self::groups(&state, std::slice::from_ref(item));
            one.iter().try_for_each(|group| group.check_whole(self, op))?;
        }
        groups.iter().try_for_each(|group| group.check_access(self, op))?;
        groups.iter().try_for_each(|group| group.check_region(self, op))?;
        for group in &groups {
            group.check(self, &state, op, &mut steps)?;
        }
        let asked = |pages| self.span(pages);
        for (region, pages, at) in &steps.punches {
            region
                .punch(*pages)
                .map_err(|errno| self.process.failed(op, asked(*at), Call::Fallocate, errno))?;
        }
        // SAFETY: `groups` divided what `whole_pages` checked against the space, whose lock `state` is; no
        // reference into it lives by the promise of `borrow`, or since it is reserved.
        unsafe { reset_all(self.process, &steps.resets) }
            .map_err(|(pages, errno)| self.process.failed(op, asked(pages), Call::Madvise, errno))
    }
}

/// A range of the caller's, and its place in the list.
type Item = (Pages, Option<usize>);

/// What is done once all is checked; neighbours are one step.
#[derive(Default)]
struct Steps {
    /// The region's pages at these offsets go back; they are shown at these addresses.
    punches: Vec<(Region, Pages, Pages)>,
    /// Private pages at these addresses forget what was written to them.
    resets: Vec<Pages>,
}

/// Parts of items that lie in one tie, or between ties: the kernel is asked about them together.
struct Group<'a> {
    record: Option<&'a Arc<Record>>,
    /// Where they all lie.
    hull: Pages,
    parts: Vec<Part>,
}

/// Where an item lies in a group.
struct Part {
    pages: Pages,
    item: Item,
}

/// Divides items where ties begin and end.
fn groups<'a>(state: &'a State, items: &[Item]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    // Up to where nothing but the last group's tie, or none, can be met.
    let mut until = 0;
    for &item in items {
        let mut left = Some(item.0);
        while let Some(rest) = left {
            if rest.start() >= until || groups.is_empty() {
                let met = state.ledger.from(rest.start());
                let record = met.filter(|record| record.pages.start() <= rest.start());
                until = match (record, met) {
                    (Some(record), _) => record.pages.end(),
                    (None, Some(next)) => next.pages.start(),
                    (None, None) => usize::MAX,
                };
                groups.push(Group { record, hull: rest, parts: Vec::new() });
            }
            let end = rest.end().min(until);
            let part = Pages::known(rest.start(), end);
            if let (Some(part), Some(group)) = (part, groups.last_mut()) {
                group.hull = match group.parts.is_empty() {
                    true => part,
                    false => group.hull.hull(part),
                };
                group.parts.push(Part { pages: part, item });
            }
            left = Pages::known(end, rest.end());
        }
    }
    groups
}

impl Group<'_> {
    /// Refuses parts that end inside a huge page of the tie.
    fn check_whole(&self, shared: &Shared, op: Op) -> Result<()> {
        let Some(record) = self.record else { return Ok(()) };
        let body = record.body();
        match body.alias.region.is_huge() {
            true => self.each(|part| check_huge(shared, op, &body.alias.region, part)),
            false => Ok(()),
        }
    }

    fn check_access(&self, shared: &Shared, op: Op) -> Result<()> {
        let Some(record) = self.record else { return Ok(()) };
        if record.body().alias.options.access == Access::ReadOnly {
            let tie = shared.span(record.pages);
            return self.first(|asked| Err(Error::read_only_tie(op, shared.span(asked), tie)));
        }
        Ok(())
    }

    /// Whether the region lets its bytes go, where they would.
    fn check_region(&self, shared: &Shared, op: Op) -> Result<()> {
        let Some(record) = self.record else { return Ok(()) };
        let alias = &record.body().alias;
        if alias.options.access == Access::ReadWrite {
            return self.first(|asked| alias.region.check_discard(op, shared.span(asked)));
        }
        Ok(())
    }

    /// All parts are at fault, or none: the first item is named, as it was asked for.
    fn first(&self, check: impl Fn(Pages) -> Result<()>) -> Result<()> {
        self.parts.first().map_or(Ok(()), |part| part.item_refused(check(part.item.0)))
    }

    /// Asks the kernel about every part, and adds what is to be done with it.
    fn check(&self, shared: &Shared, state: &State, op: Op, steps: &mut Steps) -> Result<()> {
        let Some(record) = self.record else {
            // Where the hull is not as it should be, a part is to blame, or what lies between them.
            if self.survey(shared, state, op, self.hull).is_err() {
                self.each(|part| self.survey(shared, state, op, part))?;
            }
            self.parts.iter().for_each(|part| steps.reset(part.pages));
            return Ok(());
        };
        let body = record.body();
        let alias = &body.alias;
        let access = alias.options.access;
        let laid_at = record.pages.start();
        let same = |part| match shared.confirm(state, op, part, alias, laid_at)?.is_same() {
            true => Ok(()),
            false => Err(Error::changed(op, shared.span(record.pages))),
        };
        if same(self.hull).is_err() {
            self.each(same)?;
        }
        for &Part { pages, .. } in &self.parts {
            match access {
                Access::ReadWrite => {
                    let offset = alias.offset + (pages.start() - laid_at);
                    steps.punch(&alias.region, pages.moved_to(offset), pages);
                }
                _ => steps.reset(pages),
            }
        }
        Ok(())
    }

    fn each(&self, check: impl Fn(Pages) -> Result<()>) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.item_refused(check(part.pages)))
    }

    /// Refuses untied pages that cannot be discarded.
    fn survey(&self, shared: &Shared, state: &State, op: Op, pages: Pages) -> Result<()> {
        if shared.survey(state, op, pages)?.iter().any(|vma| vma.shared) {
            let why = "untied shared memory cannot be discarded: \
                       the kernel would say yes and keep the bytes";
            return Err(Error::unsupported(op, why, None));
        }
        Ok(())
    }
}

impl Part {
    /// An error says which item it is about.
    fn item_refused(&self, checked: Result<()>) -> Result<()> {
        checked.map_err(|error| error.of_item(self.item.1))
    }
}

impl Steps {
    /// Items come in the order of addresses, so neighbours come one after the other.
    fn reset(&mut self, pages: Pages) {
        match self.resets.last_mut() {
            Some(last) if pages.start() <= last.end() => *last = last.hull(pages),
            _ => self.resets.push(pages),
        }
    }

    fn punch(&mut self, region: &Region, pages: Pages, at: Pages) {
        match self.punches.last_mut() {
            Some((last, offsets, addresses))
                if last.is_same(region)
                    && offsets.start() <= pages.start()
                    && pages.start() <= offsets.end() =>
            {
                *offsets = offsets.hull(pages);
                *addresses = addresses.hull(at);
            }
            _ => self.punches.push((region.clone(), pages, at)),
        }
    }
}

/// Resets many ranges, in as few calls as the kernel offers. The one that failed is the error; those
/// before it are done.
///
/// # Safety
/// As [`reset`], for each range.
unsafe fn reset_all(process: &Process, ranges: &[Pages]) -> Result<(), (Pages, Errno)> {
    let mut left = ranges;
    while let [first, rest @ ..] = left {
        // One alone is not worth a batch, and tells nothing about batches.
        let batch = if rest.is_empty() { None } else { process.batch() };
        if let Some(batch) = batch {
            // SAFETY: the caller's promise is that of this function, for each range.
            let done = unsafe { batch.advise(left, Advice::DontNeed) };
            if let Ok(done @ 1..) = done {
                left = &left[done..];
                continue;
            }
        }
        // A batch stops at a range that is locked, and at the first on kernels without batches.
        // SAFETY: as for the batch.
        let locked = unsafe { reset(*first) }.map_err(|errno| (*first, errno))?;
        if batch.is_some() && !locked {
            process.no_batch();
        }
        left = rest;
    }
    Ok(())
}

/// Private pages forget what was written to them, locked or not; says whether some were.
///
/// # Safety
/// The pages lie inside a space whose lock is held, whose owner lent it (or which is ours) without
/// references into it, and what was written to them is to go.
pub(crate) unsafe fn reset(pages: Pages) -> Result<bool, Errno> {
    // SAFETY: the caller's promise is that of this function.
    let advise = |advice| unsafe { sys::advise(pages.start(), pages.len(), advice) };
    match advise(Advice::DontNeed) {
        // Some of it is locked.
        Err(Errno::INVAL) => match advise(Advice::DontNeedLocked) {
            // Before Linux 5.18.
            // SAFETY: the same.
            Err(Errno::INVAL) => unsafe { reset_locked(pages) }.map(|()| true),
            done => done.map(|()| true),
        },
        done => done.map(|()| false),
    }
}

/// Page by page, since neighbours may be locked or not.
///
/// # Safety
/// As [`reset`].
unsafe fn reset_locked(pages: Pages) -> Result<(), Errno> {
    for page in pages.each() {
        let locked = sys::is_locked(page.start(), page.len())?;
        if locked {
            sys::unlock(page.start(), page.len())?;
        }
        // SAFETY: the caller's promise, for one of the pages.
        let done = unsafe { sys::advise(page.start(), page.len(), Advice::DontNeed) };
        if locked {
            sys::lock(page.start(), page.len())?;
        }
        done?;
    }
    Ok(())
}
