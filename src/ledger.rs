//! [`Ledger`]: the record of every tie of a space, by addresses.
//!
//! The space owns the records, not the handles: a handle may be dropped, leaked, or outlive its space,
//! and what it could not undo is still known here. A [`Record`] is shared by both; its body is touched
//! only while the space's lock is held.

use crate::alias::Alias;
use crate::keep::{Cover, Protections};
use crate::page::Pages;
use crate::restrictions;
use rangemap::RangeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The records of a space. No two overlap.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: RangeMap<usize, Arc<Record>>,
}

/// One tie.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its addresses, for good.
    pub pages: Pages,
    live: AtomicBool,
    body: Mutex<Body>,
}

/// What changes in the life of a tie.
#[derive(Debug)]
pub(crate) struct Body {
    pub alias: Alias,
    pub cover: Option<Cover>,
    /// What `protect` had forbidden in the pages that it covers.
    pub restricted: restrictions::Covered,
    /// Somebody made a read-only tie writable, and it may have private pages.
    pub loosened: bool,
    pub standing: Standing,
}

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A live tie with a handle.
    Held,
    /// A live tie whose handle is gone: the space undoes it when it can.
    Unheld,
    /// A range in which the kernel failed halfway: what was covered is aside, and no alias or only a
    /// part of one is there. Brought back without asking what lies there.
    Stranded,
    /// A tie that ended because somebody replaced a part of it, while another part still shows our
    /// pages.
    Stray,
}

impl Body {
    /// Whether the alias is as it was laid: without private pages of a guest's, and with the protection
    /// of its access, `now` being what its addresses allow.
    pub fn is_pristine(&self, now: &Protections) -> bool {
        let laid = self.alias.protection();
        !self.loosened && now.iter().all(|&(_, protection)| protection == laid)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Record {}

impl Record {
    pub fn new(pages: Pages, alias: Alias, cover: Cover, standing: Standing) -> Arc<Self> {
        let body =
            Body { alias, cover: Some(cover), restricted: Vec::new(), loosened: false, standing };
        Arc::new(Self {
            pages,
            live: AtomicBool::new(standing == Standing::Held),
            body: Mutex::new(body),
        })
    }

    /// Whether the tie has not ended. No lock is taken.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.live.store(false, Ordering::Release);
    }

    /// For who holds the space's lock.
    pub fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// The first record that meets `pages`.
    pub fn meets(&self, pages: Pages) -> Option<&Arc<Record>> {
        self.overlapping(pages).next()
    }

    /// The records that meet `pages`, in the order of addresses.
    pub fn overlapping(&self, pages: Pages) -> impl DoubleEndedIterator<Item = &Arc<Record>> {
        self.records.overlapping(pages.range()).map(|(_, record)| record)
    }

    /// The first record that ends after an address.
    pub fn from(&self, addr: usize) -> Option<&Arc<Record>> {
        self.records.overlapping(addr..usize::MAX).next().map(|(_, record)| record)
    }

    pub fn insert(&mut self, record: Arc<Record>) {
        debug_assert!(self.meets(record.pages).is_none());
        self.records.insert(record.pages.range(), record);
    }

    pub fn remove(&mut self, record: &Record) {
        self.records.remove(record.pages.range());
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter().map(|(_, record)| record)
    }
}
