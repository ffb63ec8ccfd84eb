//! The ballast: mappings held in reserve, so that untying works at the very mapping limit.
//!
//! mremap(2) wants about four spare mappings even where it frees some, and splitting one wants two. A
//! process at `vm.max_map_count` has none, and could not give back what its ties cover. So 16
//! mappings are kept as long as any space lives: one reservation whose pages alternate between two
//! protections, which a single mprotect merges into one mapping. A step of an untie that meets
//! `ENOMEM` throws the ballast off that way, is tried again, and lays it anew.
//!
//! One for the process, not one a space: it is thrown off for one step at a time, under a lock, and a
//! program with thousands of small spaces would otherwise reach the limit by its ballasts.
//!
//! Source: mremap(2), mprotect(2); `vm.max_map_count` in proc(5).

#![allow(unsafe_code, reason = "changes the protection of its own reservation")]

use crate::page;
use crate::sys::{self, Errno, Protection};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MAPPINGS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Ballast {
    /// Where the reservation is, while there is one.
    reservation: Mutex<Option<usize>>,
    /// Whether its protections alternate now.
    laid: AtomicBool,
}

impl Ballast {
    /// Takes the mappings. After an error those that could be had are still there, to be counted and given
    /// back.
    pub fn take(&self) -> Result<(), Errno> {
        let mut reservation = self.reservation();
        if reservation.is_none() {
            *reservation = Some(sys::reserve(MAPPINGS * page::size())?);
        }
        self.lay(&reservation)
    }

    /// Gives the mappings back.
    pub fn give_back(&self) {
        let mut reservation = self.reservation();
        self.laid.store(false, Ordering::Relaxed);
        if let Some(start) = reservation.take() {
            // SAFETY: our own reservation, forgotten here.
            let _ = unsafe { sys::unmap(start, MAPPINGS * page::size()) };
        }
    }

    /// Whether the ballast is there to be thrown off; lays it again where another thread was quicker
    /// to take the mappings that one throw freed.
    pub fn is_ready(&self) -> bool {
        self.laid.load(Ordering::Relaxed) || self.lay(&self.reservation()).is_ok()
    }

    /// Runs a step of an untie; where it meets `ENOMEM`, once more with the ballast off.
    pub fn sparing<T>(&self, mut step: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        match step() {
            Err(Errno::NOMEM) => {
                let reservation = self.reservation();
                self.throw_off(&reservation);
                let again = step();
                // What cannot be laid now is laid before the next tie.
                let _ = self.lay(&reservation);
                again
            }
            done => done,
        }
    }

    fn reservation(&self) -> MutexGuard<'_, Option<usize>> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lay(&self, reservation: &Option<usize>) -> Result<(), Errno> {
        let Some(start) = *reservation else {
            return Err(Errno::NOMEM);
        };
        for odd in (1..MAPPINGS).step_by(2) {
            let page = start + odd * page::size();
            // SAFETY: a page of our own reservation, which nothing refers to.
            unsafe { sys::protect(page, page::size(), Protection::READ)? };
        }
        self.laid.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn throw_off(&self, reservation: &Option<usize>) {
        let Some(start) = *reservation else { return };
        self.laid.store(false, Ordering::Relaxed);
        // SAFETY: our own reservation. Merging splits no mapping, so it needs none to spare.
        let _ = unsafe { sys::protect(start, MAPPINGS * page::size(), Protection::NONE) };
    }
}
