//! `untie` and `untie_all`: what was there before comes back.
//!
//! First the kernel is asked whether the range still shows what was left there. If it does not, the
//! memory is somebody else's by now and nothing is touched: the tie has just ended. Then protections
//! and locks are put right aside, where a failure changes nothing yet, and the pages are moved back
//! over the alias.

#![allow(unsafe_code, reason = "maps over the alias of a tie")]

use crate::Space;
use crate::alias::Failed;
use crate::error::{Error, Op, Result};
use crate::inspect::Confirmed;
use crate::keep::{Cover, Protections, Return};
use crate::ledger::{Body, Record, Standing};
use crate::lender::Lender;
use crate::loan;
use crate::page::Pages;
use crate::space::{Shared, State};
use std::sync::Arc;

impl Space {
    /// Ends every tie of the space, those included whose handles were dropped and could not be undone.
    /// Handles stay, ended. Loans are given back. `Ok` means: no alias of ours is left here, the memory may
    /// be handed back or recycled.
    ///
    /// # Errors
    /// The first of them; all ties were tried, and those that could not be undone are live still.
    /// - [`Changed`](crate::ErrorKind::Changed): somebody else replaced a tie's pages. That tie has
    ///   ended. As long as a part of it still shows our pages, this is the answer again.
    ///
    /// # Threads
    /// As [`Tie::untie`](crate::Tie::untie) for each tie.
    pub fn untie_all(&self) -> Result<()> {
        let shared = self.shared();
        let mut state = shared.lock(Op::UntieAll)?;
        every(shared, &mut state, Op::UntieAll, true)
    }
}

/// Ends every tie and every loan of a space; the first error, after all were tried.
pub(crate) fn every(
    shared: &Shared,
    state: &mut State,
    op: Op,
    insist_on_locks: bool,
) -> Result<()> {
    let records: Vec<Arc<Record>> = state.ledger.all().cloned().collect();
    let mut result = Ok(());
    for record in &records {
        result = result.and(end_with(shared, state, op, record, insist_on_locks));
    }
    result.and(loan::every(shared, state, op, insist_on_locks))
}

/// Ends one tie, of whatever standing. On an error it is as live as before, but for `Changed` and where
/// all came back and could not be locked.
pub(crate) fn end(shared: &Shared, state: &mut State, op: Op, record: &Record) -> Result<()> {
    end_with(shared, state, op, record, true)
}

/// [`end`]; without insisting on locks, bytes come back that cannot be locked again.
fn end_with(
    shared: &Shared,
    state: &mut State,
    op: Op,
    record: &Record,
    insist_on_locks: bool,
) -> Result<()> {
    let mut body = record.body();
    let Some(left) = body.cover.as_ref().map_or(Some(record.pages), Cover::left) else {
        record.end();
        state.ledger.remove(record);
        return Ok(());
    };
    let laid_at = record.pages.start();
    let changed = || Err(Error::changed(op, shared.span(record.pages)));
    let now = match body.standing {
        // What lies there is what the kernel or we left when it failed.
        Standing::Stranded if shared.is_stranded(left, &body.alias, laid_at) => None,
        Standing::Stranded => {
            end_changed(state, record, &mut body, false);
            return changed();
        }
        standing @ (Standing::Held | Standing::Unheld | Standing::Stray) => {
            match shared.confirm(state, op, left, &body.alias, laid_at)? {
                Confirmed::Same(now) if standing != Standing::Stray => Some(now),
                Confirmed::Changed { some_left: false } if standing == Standing::Stray => {
                    state.ledger.remove(record);
                    return Ok(());
                }
                Confirmed::Changed { some_left } => {
                    end_changed(state, record, &mut body, some_left);
                    return changed();
                }
                Confirmed::Same(_) => return changed(),
            }
        }
    };
    if let Some(now) = now.as_ref().filter(|_| left == record.pages) {
        // SAFETY: at `left` lies our own alias, as the kernel just confirmed, of which no reference was ever
        // lent.
        unsafe { take_back(shared, &body, left, now) };
    }
    let laid = body.alias.protection();
    let Some(cover) = body.cover.as_mut() else { return changed() };
    let how = Return {
        now: now.as_ref(),
        laid,
        zeros: state.zeros,
        beliefs: state.beliefs.as_mut(),
        undoing: false,
        insist_on_locks,
    };
    // SAFETY: at `left` lies our own alias, as the kernel just confirmed, of which no reference was
    // ever lent; or what a failure left there.
    if let Err(failed) = unsafe { cover.bring_back(how) } {
        return Err(stopped(shared, state, op, record, &mut body, failed, |_| ()));
    }
    ended(state, record, &mut body);
    Ok(())
}

/// Gives page tables back to the view that lent them; not of what may have private pages. The alias goes on
/// to show what it showed.
///
/// # Safety
/// At `home` lies this alias, whole, with the protections `now`; no reference into it lives.
pub(crate) unsafe fn take_back(shared: &Shared, body: &Body, home: Pages, now: &Protections) {
    if !body.alias.lent || !body.is_pristine(now) || now.len() != 1 {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { Lender::take_back(shared.process, &body.alias, home) };
}

/// What the addresses of a live tie allow now, where the kernel says that it lies there whole. One that
/// somebody else replaced ends here.
pub(crate) fn confirm(
    shared: &Shared,
    state: &mut State,
    op: Op,
    record: &Record,
    body: &mut Body,
) -> Result<Protections> {
    let pages = record.pages;
    let whole = body.cover.as_ref().and_then(Cover::left) == Some(pages);
    // Otherwise an untie stopped halfway: a part has come back already, or its alias is gone.
    if !record.is_live() || !whole || body.standing != Standing::Held {
        return Err(Error::ended(op, false));
    }
    match shared.confirm(state, op, pages, &body.alias, pages.start())? {
        Confirmed::Same(now) => Ok(now),
        Confirmed::Changed { some_left } => {
            end_changed(state, record, body, some_left);
            Err(Error::changed(op, shared.span(pages)))
        }
    }
}

/// The error where bringing back what a tie covers stopped. `restore` puts the alias back over what is
/// left of the tie; where it does not lie there again, the record says so.
pub(crate) fn stopped(
    shared: &Shared,
    state: &mut State,
    op: Op,
    record: &Record,
    body: &mut Body,
    (call, errno): Failed,
    restore: impl FnOnce(Pages),
) -> Error {
    let error = shared.process.failed(op, shared.span(record.pages), call, errno);
    let Some(left) = body.cover.as_ref().and_then(Cover::left) else {
        // All is back, but for a lock.
        ended(state, record, body);
        return error;
    };
    restore(left);
    let again = shared.confirm(state, op, left, &body.alias, record.pages.start());
    if !matches!(again, Ok(Confirmed::Same(_))) {
        shared.fill_holes(left);
        body.standing = Standing::Stranded;
    }
    error
}

/// What a tie covered is back.
pub(crate) fn ended(state: &mut State, record: &Record, body: &mut Body) {
    let laid = body.alias.protection();
    state.restrictions.restore(record.pages, laid, std::mem::take(&mut body.restricted));
    record.end();
    state.ledger.remove(record);
}

/// Ends a tie whose addresses somebody else has replaced, wholly or in part.
pub(crate) fn end_changed(state: &mut State, record: &Record, body: &mut Body, some_left: bool) {
    record.end();
    body.cover = None;
    state.restrictions.take(record.pages);
    if some_left {
        body.standing = Standing::Stray;
    } else {
        state.ledger.remove(record);
    }
}

/// The handle of a tie that could not be undone is going: the space keeps the record.
pub(crate) fn give_up(record: &Record) {
    let mut body = record.body();
    record.end();
    if body.standing == Standing::Held {
        body.standing = Standing::Unheld;
    }
}
