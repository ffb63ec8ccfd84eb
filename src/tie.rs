//! `tie` and `retie`: from now on these addresses show those pages.
//!
//! Every tie goes the same way. A [`Plan`] holds what was checked without asking the kernel; under the
//! space's lock it is checked against the ledger; then the kernel is asked what lies there, that is
//! moved aside, and the alias is laid. Up to there nothing that fails leaves a trace.
//!
//! Source: mmap(2) `MAP_FIXED`; mremap(2) `MREMAP_DONTUNMAP`.

#![allow(unsafe_code, reason = "maps over the space's addresses")]

use crate::alias::{Alias, Failed};
use crate::error::{Error, Met, Op, Result, Span, UntieError};
use crate::inspect::{self, Confirmed, Layout};
use crate::keep::{self, Cover, Locks, Moment, Return};
use crate::ledger::{Record, Standing};
use crate::lender::{Lend, Lender};
use crate::options::{Access, Covered, Prefault, TieOptions, TieSpec};
use crate::page::{Extent, Pages};
use crate::process::Process;
use crate::region::Region;
use crate::space::{Shared, Space, State};
use crate::sys::{self, Call, Errno, Protection};
use crate::untie;
use crate::zeros::Zeros;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

/// One live alias: a range of a region, shown in a space.
///
/// A tie keeps its region's pages alive. Dropping it unties it, silently; [`Tie::untie`] says whether
/// that worked. What a drop cannot undo stays with the space, which tries again.
#[must_use = "a tie that is dropped is untied"]
pub struct Tie {
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: Arc<Record>,
    alias: Alias,
}

/// A tie that was checked as far as that goes without the kernel and without the space's lock.
struct Plan {
    op: Op,
    /// Addresses.
    pages: Pages,
    alias: Alias,
    /// An alias that is ready elsewhere, to be moved in.
    aside: Option<Pages>,
    /// Whether a view of the region may lend its page tables.
    lend: Lend,
}

impl Plan {
    /// Misaligned, empty, out of range, ended, read-only, unsupported: in this order.
    fn check(
        op: Op,
        shared: &Shared,
        at: usize,
        region: &Region,
        extent: Extent,
        options: TieOptions,
    ) -> Result<Self> {
        let offset = extent.start;
        let place = shared.page_bounds(op, region.page_size());
        let source = region.page_bounds(op);
        place.aligned(at, extent.len_or_none())?;
        source.aligned(offset, extent.len_or_none())?;
        let len = extent.len(source)?;
        let len = region.whole_len(offset, len);
        let pages = Pages::check(place, at, len)?;
        Pages::check(source, offset, len)?;
        shared.check_fork(op)?;
        let alias = Alias::new(region, offset, options);
        check_access(op, &alias, shared.span(pages))?;
        Ok(Self { op, pages, alias, aside: None, lend: Lend::No })
    }

    fn check_overlap(&self, shared: &Shared, state: &State) -> Result<()> {
        check_view(shared, self.op, self.pages, &self.alias.region)?;
        shared.check_free(state, self.op, self.pages)
    }

    /// What the kernel has where the tie shall lie, if it can be covered as the options ask.
    fn survey(&self, shared: &Shared, state: &State) -> Result<Layout> {
        let layout = shared.survey(state, self.op, self.pages)?;
        Moment::check(shared.process, &layout, self.alias.options)
            .map_err(|(why, errno)| Error::unsupported(self.op, why, errno))?;
        Ok(layout)
    }

    /// Lays the alias: moves in the one that is ready, or has it lent, or maps it.
    ///
    /// # Safety
    /// As [`Alias::lay`], for the plan's pages.
    unsafe fn lay(&mut self, process: &Process) -> Result<(), Failed> {
        if let Some(aside) = self.aside {
            // SAFETY: the caller's promise; what is aside is one mapping of this alias, as long as the pages.
            return unsafe { self.alias.move_in(aside, self.pages) };
        }
        let lend = std::mem::take(&mut self.lend);
        if lend != Lend::No {
            // SAFETY: the caller's promise is that of this function.
            if unsafe { Lender::lend(process, &self.alias, self.pages, lend) } {
                self.alias.lent = true;
                return Ok(());
            }
        }
        // SAFETY: the caller's promise is that of this function. A failure to lend may have left a hole.
        unsafe { self.alias.lay(self.pages) }
    }

    /// Whether `next` goes on where this one ends, in the space as in the region.
    fn is_continued_by(&self, next: &Plan) -> bool {
        self.pages.end() == next.pages.start()
            && self.alias.region.is_same(&next.alias.region)
            && self.alias.offset + self.pages.len() == next.alias.offset
            && self.alias.options == next.alias.options
    }
}

/// Refuses what this region cannot be asked for.
fn check_access(op: Op, alias: &Alias, asked: Span) -> Result<()> {
    let Alias { region, options, .. } = alias;
    region.check_fork(op)?;
    if options.access == Access::ReadWrite && region.is_read_only() {
        return Err(Error::read_only(op, asked));
    }
    if options.access != Access::ReadWrite && region.is_huge() {
        let why = "a region of huge pages can be tied read-write only: a private map of one takes \
                   pages from the pool again";
        return Err(Error::unsupported(op, why, None));
    }
    if options.prefault == Prefault::Copy && options.access != Access::CopyOnWrite {
        let why = "Prefault::Copy is for copy-on-write ties: others have nothing to copy";
        return Err(Error::unsupported(op, why, None));
    }
    Ok(())
}

/// Refuses to cover the region's own host view.
fn check_view(shared: &Shared, op: Op, pages: Pages, region: &Region) -> Result<()> {
    match region.view_pages().intersection(pages) {
        Some(met) => Err(Error::overlap(op, shared.span(pages), shared.span(met), Met::HostView)),
        None => Ok(()),
    }
}

impl Space {
    /// Ties a range of `region` to this space at `at`: both addresses show the same pages from now on.
    ///
    /// What was there is kept aside and comes back with [`Tie::untie`], unless
    /// [`TieOptions::covered`] says otherwise.
    ///
    /// Reading a hole of a sparse region through any tie takes memory for it: a guest can fill a
    /// region up to its length.
    ///
    /// Huge pages of a region ([`Region::collapse`]) are huge in a tie too where its address and its offset
    /// agree modulo 2 MiB, and only there; [`TieInfo::congruent`](crate::TieInfo::congruent) tells. Spaces of
    /// [`Space::reserve`] begin at such an address, and so do most engines' memories.
    ///
    /// # Units
    /// `at` and `range`: bytes, of the space and of the region. Both are multiples of
    /// [`Region::page_size`], as addresses: if a borrowed space does not start on a page, `at` is
    /// shifted by as much. `range` may end at the region's end inside its last page: that whole page is
    /// tied, its bytes past the end read zero and are not kept.
    ///
    /// # Errors
    /// In this order:
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange);
    /// - [`Ended`](crate::ErrorKind::Ended): this is a forked child;
    /// - [`ReadOnly`](crate::ErrorKind::ReadOnly): [`Access::ReadWrite`] of a read-only region;
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): not for this kind of region or memory, or not
    ///   with this kernel;
    /// - [`Overlap`](crate::ErrorKind::Overlap): with a live tie, or the region's own host view;
    /// - [`NotMapped`](crate::ErrorKind::NotMapped), [`RefusedMemory`](crate::ErrorKind::RefusedMemory):
    ///   the kernel has a hole there, or code;
    /// - [`Limit`](crate::ErrorKind::Limit): a kept tie takes up to three mappings;
    ///   [`NoMemory`](crate::ErrorKind::NoMemory), [`Os`](crate::ErrorKind::Os).
    ///
    /// On error the memory is as it was.
    ///
    /// # Threads
    /// A thread that reads the range sees each page old or new, never a fault. What a thread *writes*
    /// to the covered range during the call can be lost, and it may read zeros there, unless
    /// [`TieOptions::concurrent`] is set or the pages are thrown away. (The first tie of a borrowed space
    /// that throws pages away may show zeros for a moment too: it finds out how to lay them at its end.)
    ///
    /// # Source
    /// mmap(2) `MAP_FIXED`; mremap(2) `MREMAP_DONTUNMAP`, Linux 5.7, of file maps 5.13.
    #[doc(alias = "mmap")]
    #[doc(alias = "MAP_FIXED")]
    #[doc(alias = "mremap")]
    pub fn tie(
        &self,
        at: usize,
        region: &Region,
        range: impl RangeBounds<usize>,
        how: impl Into<TieOptions>,
    ) -> Result<Tie> {
        self.tie_extent(at, region, Extent::of(&range, region.len()), how.into())
    }

    pub(crate) fn tie_extent(
        &self,
        at: usize,
        region: &Region,
        extent: Extent,
        options: TieOptions,
    ) -> Result<Tie> {
        self.tie_as(at, region, extent, options, Lender::populated)
    }

    /// The same, lent to as `lend` says.
    pub(crate) fn tie_as(
        &self,
        at: usize,
        region: &Region,
        extent: Extent,
        options: TieOptions,
        lend: impl FnOnce(&Process, &Alias, usize) -> Lend,
    ) -> Result<Tie> {
        let shared = self.shared();
        let plan = Plan::check(Op::Tie, shared, at, region, extent, options)?;
        let lend = lend(shared.process, &plan.alias, plan.pages.len());
        carry_out(shared, Plan { lend, ..plan })
    }

    /// Moves an alias in that was taken off other addresses.
    pub(crate) fn tie_parked(&self, at: usize, alias: &Alias, aside: Pages) -> Result<Tie> {
        let (op, shared) = (Op::Resume, self.shared());
        let extent = Extent::new(alias.offset, aside.len());
        let plan = Plan::check(op, shared, at, &alias.region, extent, alias.options)?;
        carry_out(shared, Plan { aside: Some(aside), alias: alias.clone(), ..plan })
    }

    /// Ties all of a list, or nothing: every item is checked before the first change, neighbours that
    /// continue each other in space and region are laid in one system call, and if the kernel refuses
    /// one halfway those before are undone. (Pages thrown away by [`Covered::Discard`] before that stay
    /// zeros.)
    ///
    /// [`Covered::Discard`]: crate::Covered::Discard
    ///
    /// The ties come in the order of the list. Each is untied alone.
    ///
    /// # Errors
    /// Those of [`Space::tie`], with [`Error::index`] naming the item;
    /// [`Overlap`](crate::ErrorKind::Overlap) also of two items.
    ///
    /// # Threads
    /// As [`Space::tie`]; the ties do not appear all at once.
    pub fn tie_all(&self, specs: &[TieSpec<'_>]) -> Result<Vec<Tie>> {
        let extents = specs.iter().map(|spec| Extent::of(&spec.range, 0));
        self.tie_extents(
            specs
                .iter()
                .zip(extents)
                .map(|(spec, extent)| (spec.at, spec.region, extent, spec.options)),
        )
    }

    pub(crate) fn tie_extents<'r>(
        &self,
        items: impl ExactSizeIterator<Item = (usize, &'r Region, Extent, TieOptions)>,
    ) -> Result<Vec<Tie>> {
        let shared = self.shared();
        let mut plans = Vec::with_capacity(items.len());
        for (index, (at, region, extent, options)) in items.enumerate() {
            let plan = Plan::check(Op::Tie, shared, at, region, extent, options);
            plans.push((index, plan.map_err(|error| error.at_index(index))?));
        }
        shared.check_fork(Op::Tie)?;
        if plans.is_empty() {
            return Ok(Vec::new());
        }
        // Before the lock, and so dropped after it: a handle takes the lock when it is dropped.
        let mut ties: Vec<(usize, Tie)> = Vec::with_capacity(plans.len());
        let mut state = shared.lock(Op::Tie)?;
        for (index, plan) in &plans {
            plan.check_overlap(shared, &state).map_err(|error| error.at_index(*index))?;
        }
        plans.sort_by_key(|(_, plan)| plan.pages.start());
        for pair in plans.windows(2) {
            let [(first, before), (second, after)] = pair else {
                continue;
            };
            if before.pages.end() > after.pages.start() {
                // The later one of the list is the one that is refused.
                let (index, asked, other) = match first < second {
                    true => (*second, after.pages, before.pages),
                    false => (*first, before.pages, after.pages),
                };
                let (asked, other) = (shared.span(asked), shared.span(other));
                return Err(Error::overlap(Op::Tie, asked, other, Met::Item).at_index(index));
            }
        }
        // The kernel is asked about all of them before the first is laid.
        let mut runs: Vec<Run<'_>> = Vec::new();
        let mut rest = &plans[..];
        while let [(_, first), ..] = rest {
            let continued =
                rest.windows(2).take_while(|pair| pair[0].1.is_continued_by(&pair[1].1));
            let (items, after) = rest.split_at(1 + continued.count());
            rest = after;
            let end = items.last().map_or(first.pages.end(), |(_, last)| last.pages.end());
            let Some(pages) = Pages::known(first.pages.start(), end) else { continue };
            let alias = first.alias.clone();
            runs.push(Run {
                items,
                whole: Plan { op: Op::Tie, pages, alias, aside: None, lend: Lend::No },
            });
        }
        let surveys = survey_all(shared, &state, &runs)?;
        for (Run { items, whole }, (layout, locks)) in runs.iter_mut().zip(&surveys) {
            match lay(shared, &mut state, whole, layout, *locks) {
                Ok(mut cover) => {
                    for (index, plan) in *items {
                        let next = cover.split_off(plan.pages.end());
                        let alias = plan.alias.clone();
                        ties.push((*index, enter(shared, &mut state, plan.pages, alias, cover)));
                        cover = next;
                    }
                }
                Err(error) => {
                    for (_, tie) in ties.iter().rev() {
                        // What cannot be undone is the space's to try again.
                        if untie::end(shared, &mut state, Op::Untie, &tie.record).is_err() {
                            untie::give_up(&tie.record);
                        }
                    }
                    return Err(error.of_item(items.first().map(|(index, _)| *index)));
                }
            }
        }
        drop(state);
        ties.sort_by_key(|(index, _)| *index);
        Ok(ties.into_iter().map(|(_, tie)| tie).collect())
    }
}

/// Items of a list that continue each other in space and region, and their one plan.
struct Run<'a> {
    items: &'a [(usize, Plan)],
    whole: Plan,
}

/// Surveys every run. Runs that lie side by side are asked about together.
fn survey_all(shared: &Shared, state: &State, runs: &[Run<'_>]) -> Result<Vec<(Layout, Locks)>> {
    /// Mappings under neighbours that are still looked through for each of them.
    const FEW: usize = 4;
    let mut surveys = Vec::with_capacity(runs.len());
    let mut rest = runs;
    while let [first, ..] = rest {
        let (pages, options) = (|run: &Run<'_>| run.whole.pages, first.whole.alias.options);
        let beside = rest.windows(2).take_while(|pair| {
            pages(&pair[0]).end() == pages(&pair[1]).start()
                && pair[1].whole.alias.options == options
        });
        let (group, after) = rest.split_at(1 + beside.count());
        rest = after;
        let hull = group.last().map_or(pages(first), |last| pages(first).hull(pages(last)));
        if group.len() > 1 {
            let together = Plan { pages: hull, alias: first.whole.alias.clone(), ..first.whole };
            let layout = together.survey(shared, state).ok().filter(|all| all.len() <= FEW);
            let parts = layout.and_then(|all| {
                let part = |run| inspect::part(&all, pages(run));
                group.iter().map(part).collect::<Option<Vec<_>>>()
            });
            if let Some(parts) = parts {
                let locked = sys::is_locked(hull.start(), hull.len());
                let locks = if locked == Ok(false) { Locks::None } else { Locks::Unknown };
                surveys.extend(parts.into_iter().map(|layout| (layout, locks)));
                continue;
            }
        }
        for run in group {
            let layout = run.whole.survey(shared, state);
            let index = run.items.first().map(|(index, _)| *index);
            surveys.push((layout.map_err(|error| error.of_item(index))?, Locks::Unknown));
        }
    }
    Ok(surveys)
}

/// Makes one tie of a plan.
fn carry_out(shared: &Arc<Shared>, mut plan: Plan) -> Result<Tie> {
    let mut state = shared.lock(plan.op)?;
    plan.check_overlap(shared, &state)?;
    let layout = plan.survey(shared, &state)?;
    let cover = lay(shared, &mut state, &mut plan, &layout, Locks::Unknown)?;
    Ok(enter(shared, &mut state, plan.pages, plan.alias, cover))
}

/// Moves aside what is there, and lays the alias.
fn lay(
    shared: &Shared,
    state: &mut State,
    plan: &mut Plan,
    layout: &Layout,
    locks: Locks,
) -> Result<Cover> {
    let (op, process, pages) = (plan.op, shared.process, plan.pages);
    if !process.ballast().is_ready() {
        return Err(process.failed(op, shared.span(pages), Call::Mprotect, Errno::NOMEM));
    }
    // SAFETY: inside the space, whose owner lent it (or which is ours) without references into it; the
    // lock is held, and the layout was just asked for.
    let taken =
        unsafe { Cover::take(process, pages, layout, plan.alias.options, state.zeros, locks) };
    let (cover, moment) = match taken {
        Ok(taken) => taken,
        Err(keep::Refusal { failed, cover, moment }) => {
            let error = refusal(shared, op, plan, failed);
            let error = error.unwrap_or_else(|failed| classify(shared, op, pages, failed));
            undo(shared, state, plan, cover, moment);
            return Err(error);
        }
    };
    // What was moved in is not there a second time, to be laid again.
    let lesson = match (state.zeros, plan.aside) {
        (Zeros::Untried, None) => cover.to_learn_from(),
        _ => None,
    };
    let laid = match lesson {
        // SAFETY: as above; the plan's range of the region was checked.
        None => unsafe { plan.lay(process) },
        // SAFETY: as above. What can be lent would be lost by learning.
        Some(_) => unsafe { plan.alias.lay(pages) },
    };
    match laid {
        Ok(()) => {
            drop(moment);
            if plan.alias.options.covered == Covered::Discard {
                cover.empty();
            }
            if let Some(home) = lesson {
                learn(shared, state, plan, home)?;
            }
            if let Some(beliefs) = &mut state.beliefs {
                beliefs.note(pages, plan.alias.options.access.protection());
            }
            Ok(cover)
        }
        Err(failed) => {
            let error = refusal(shared, op, plan, failed);
            let error = error.unwrap_or_else(|failed| classify(shared, op, pages, failed));
            undo(shared, state, plan, cover, moment);
            Err(error)
        }
    }
}

/// Finds out, at the first tie of a space that throws pages away, how to lay zeros at its end.
fn learn(
    shared: &Shared,
    state: &mut State,
    plan: &mut Plan,
    (home, protection): (Pages, Protection),
) -> Result<()> {
    let process = shared.process;
    // SAFETY: our own alias, laid a moment ago and not yet handed out, over pages nobody wants back.
    let learned = unsafe { state.zeros.learn(process, &shared.addresses(), home, protection) };
    // SAFETY: the same; the plan was checked.
    let again = || unsafe { plan.lay(process) }.map_err(|(_, errno)| errno);
    let laid = process.ballast().sparing(again);
    laid.map_err(|errno| {
        shared.fill_holes(plan.pages);
        classify(shared, plan.op, plan.pages, (Call::Mmap, errno))
    })?;
    // Not having learned costs mappings only.
    let _ = learned;
    Ok(())
}

/// The error of a failed call where the region is to blame for it.
fn refusal(shared: &Shared, op: Op, plan: &Plan, failed: Failed) -> Result<Error, Failed> {
    let shares = plan.alias.options.access == Access::ReadWrite;
    if failed == (Call::Mmap, Errno::PERM) && shares && plan.alias.region.was_write_sealed() {
        return Ok(Error::read_only(op, shared.span(plan.pages)));
    }
    Err(failed)
}

fn classify(shared: &Shared, op: Op, pages: Pages, (call, errno): Failed) -> Error {
    shared.process.failed(op, shared.span(pages), call, errno)
}

/// Brings back what was moved aside for a tie that did not come to be.
fn undo(shared: &Shared, state: &mut State, plan: &Plan, mut cover: Cover, moment: Option<Moment>) {
    let how = Return {
        now: None,
        laid: plan.alias.options.access.protection(),
        zeros: state.zeros,
        beliefs: state.beliefs.as_mut(),
        undoing: true,
        insist_on_locks: false,
    };
    // SAFETY: at the pages that were moved lies what the kernel left there, or a hole.
    let brought = unsafe { cover.bring_back(how) };
    if brought.is_err() {
        shared.fill_holes(plan.pages);
        // Even with the ballast off it did not go back: the space keeps it, and tries again.
        if let Some(left) = cover.left() {
            if let Some(moment) = &moment {
                moment.abandon(&cover);
            }
            let offset = plan.alias.offset + (left.start() - plan.pages.start());
            let alias = Alias { offset, ..plan.alias.clone() };
            let record = Record::new(left, alias, cover, Standing::Stranded);
            state.ledger.insert(record);
            return;
        }
    }
    shared.fill_holes(plan.pages);
}

/// Writes a tie into the ledger, and makes its handle.
fn enter(shared: &Arc<Shared>, state: &mut State, pages: Pages, alias: Alias, cover: Cover) -> Tie {
    let record = Record::new(pages, alias.clone(), cover, Standing::Held);
    record.body().restricted = state.restrictions.take(pages);
    state.ledger.insert(Arc::clone(&record));
    Tie { shared: Arc::clone(shared), record, alias }
}

impl Tie {
    /// Shows other pages at the same place: one system call, and every reader sees old or new and
    /// nothing else in between. What is covered stays kept, and the access's own protection returns.
    ///
    /// A region that is [hidden from forks](crate::RegionBuilder::hide_from_fork), or a tie that is
    /// prefaulted, is built aside and moved in: as atomic, in more calls.
    ///
    /// # Units
    /// `offset`: bytes of the region, a multiple of its page size; the tie's length from there on must
    /// lie in the region, up to the end of its last page.
    ///
    /// # Errors
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`OutOfRange`](crate::ErrorKind::OutOfRange),
    ///   [`Ended`](crate::ErrorKind::Ended), [`ReadOnly`](crate::ErrorKind::ReadOnly),
    ///   [`Unsupported`](crate::ErrorKind::Unsupported), [`Overlap`](crate::ErrorKind::Overlap) (the
    ///   region's own host view): nothing has changed.
    /// - [`Changed`](crate::ErrorKind::Changed): somebody else replaced what was left there. Nothing
    ///   was touched, the tie has ended, and what it had covered is freed.
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory),
    ///   [`Os`](crate::ErrorKind::Os): the old pages are still shown.
    ///
    /// # Source
    /// mmap(2) `MAP_FIXED`.
    pub fn retie(&mut self, region: &Region, offset: usize) -> Result<()> {
        let alias = Alias::new(region, offset, self.alias.options);
        let lend = Lender::populated(self.shared.process, &alias, self.record.pages.len());
        self.replace(Op::Retie, alias, None, lend)
    }

    /// Shows another alias: moved in if it is ready `aside`; with the page tables of a view that has them
    /// already, where it may `lend` them; or mapped. On an error all is where it was.
    pub(crate) fn replace(
        &mut self,
        op: Op,
        alias: Alias,
        aside: Option<Pages>,
        lend: Lend,
    ) -> Result<()> {
        let (shared, pages) = (&*self.shared, self.record.pages);
        let (region, offset) = (&alias.region, alias.offset);
        let source = region.page_bounds(op);
        let at = pages.start() - shared.start();
        shared.page_bounds(op, source.page).aligned(at, pages.len())?;
        Pages::check(source, offset, pages.len())?;
        shared.check_fork(op)?;
        if !self.is_live() {
            return Err(Error::ended(op, false));
        }
        check_access(op, &alias, shared.span(pages))?;
        check_view(shared, op, pages, region)?;
        let mut plan = Plan { op, pages, alias, aside, lend };
        let mut state = shared.lock(op)?;
        let mut body = self.record.body();
        let now = untie::confirm(shared, &mut state, op, &self.record, &mut body)?;
        // SAFETY: the range still shows our own tie, of which no reference was ever lent.
        unsafe { untie::take_back(shared, &body, pages, &now) };
        // SAFETY: the range still shows our own tie, of which no reference was ever lent; the new
        // range of the region was checked above.
        if let Err(failed) = unsafe { plan.lay(shared.process) } {
            let error = refusal(shared, op, &plan, failed);
            // A late failure of the kernel may have left a hole: the old pages are laid again.
            let hole = shared.confirm(&state, op, pages, &body.alias, pages.start());
            if !matches!(hole, Ok(Confirmed::Same(_))) {
                // SAFETY: nothing but a hole in our own tie.
                let again = || unsafe { body.alias.lay(pages) }.map_err(|(_, errno)| errno);
                if shared.process.ballast().sparing(again).is_err() {
                    shared.fill_holes(pages);
                    body.standing = Standing::Stranded;
                }
            }
            return Err(error.unwrap_or_else(|failed| classify(shared, op, pages, failed)));
        }
        if let Some(beliefs) = &mut state.beliefs {
            beliefs.note(pages, plan.alias.protection());
        }
        state.restrictions.take(pages);
        body.alias = plan.alias.clone();
        body.loosened = false;
        drop(body);
        drop(state);
        self.alias = plan.alias;
        Ok(())
    }

    /// Takes the alias away: what was there before comes back, with its bytes, protection and mapping.
    ///
    /// Pages whose protection differs from what the tie was laid with, because the engine changed it or
    /// [`Space::protect`] did, come back with the one of now. (A change to the very protection of the
    /// tie leaves no trace, so the covered one returns.) Pages that were locked are locked again, whole
    /// even if they had been locked on fault only. The tie of a space that is gone has ended, and
    /// untying it is `Ok`.
    ///
    /// # Errors
    /// The tie comes back in the error, as live as before, except after
    /// - [`Changed`](crate::ErrorKind::Changed): the kernel no longer shows what was left there.
    ///   Nothing was touched, the tie has ended, and what it had covered is freed;
    /// - a failed mlock(2) of pages that were thrown away: all is back but their lock, and the tie has
    ///   ended.
    ///
    /// At the mapping limit untying still works.
    ///
    /// # Threads
    /// A thread that reads the range sees each page old or new, never a fault.
    ///
    /// # Source
    /// mremap(2) `MREMAP_FIXED`; mmap(2) `MAP_FIXED`.
    #[doc(alias = "munmap")]
    pub fn untie(self) -> Result<(), UntieError> {
        match self.undo() {
            Ok(()) => Ok(()),
            Err(error) => Err(UntieError { error, tie: self }),
        }
    }

    fn undo(&self) -> Result<()> {
        self.shared.check_fork(Op::Untie)?;
        if !self.is_live() {
            return Ok(());
        }
        match self.shared.lock(Op::Untie) {
            Ok(mut state) => untie::end(&self.shared, &mut state, Op::Untie, &self.record),
            // The space is gone, and ended this tie.
            Err(_) => Ok(()),
        }
    }

    /// Leaves the alias where it is for good: handle and record go, what was covered is freed, and the
    /// pages now belong to the space's memory. [`Space::untie_all`] does not know them any more.
    pub fn leak(self) {
        if let Ok(mut state) = self.shared.lock(Op::Untie) {
            if self.is_live() {
                self.record.end();
                state.ledger.remove(&self.record);
                self.record.body().cover = None;
            }
        }
    }

    /// The address of its first byte.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.record.pages.start())
    }

    /// Where in the space it begins, in bytes.
    #[inline]
    pub fn at(&self) -> usize {
        self.record.pages.start() - self.shared.start()
    }

    /// The byte of the region that it begins with.
    #[inline]
    pub fn offset(&self) -> usize {
        self.alias.offset
    }

    /// Its length in bytes: whole pages.
    #[inline]
    pub fn len(&self) -> usize {
        self.record.pages.len()
    }

    /// Always false: a tie has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it may do.
    #[inline]
    pub fn access(&self) -> Access {
        self.alias.options.access
    }

    /// Whose pages it shows.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.alias.region
    }

    /// Whether its address and its offset agree modulo 2 MiB: see [`TieInfo::congruent`].
    ///
    /// [`TieInfo::congruent`]: crate::TieInfo::congruent
    pub fn is_congruent(&self) -> bool {
        self.alias.is_congruent(self.record.pages)
    }

    /// Whether it has not ended: our record, not the kernel's ([`Space::inspect`] asks that). `false` in
    /// a forked child.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.record.is_live() && self.shared.process.is_current()
    }
}

impl Drop for Tie {
    /// Unties, silently. What cannot be undone stays with the space, listed as not held.
    fn drop(&mut self) {
        if !self.is_live() {
            return;
        }
        if let Ok(mut state) = self.shared.lock(Op::Untie) {
            if untie::end(&self.shared, &mut state, Op::Untie, &self.record).is_err() {
                untie::give_up(&self.record);
            }
        }
    }
}

impl fmt::Debug for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tie")
            .field("at", &self.at())
            .field("len", &self.len())
            .field("offset", &self.offset())
            .field("access", &self.access())
            .field("live", &self.is_live())
            .finish_non_exhaustive()
    }
}
