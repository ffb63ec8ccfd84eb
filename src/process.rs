//! [`Process`]: what there is one of in a process, and how a forked child knows that it is one.
//!
//! A forked child inherits the memory of its parent, with locks that no thread of the child will
//! release, and with descriptors that answer for the parent. So everything process-wide hangs off one
//! object that is made anew in a child, and every noun remembers the object it was made under. A word
//! on a page that the kernel wipes at fork tells the two apart: two loads, before any lock is taken.
//!
//! Source: madvise(2) `MADV_WIPEONFORK`, Linux 4.14.

use crate::ballast::Ballast;
use crate::error::{Error, Op, Span, Why};
use crate::sys::{self, Batch, Call, Errno, Maps, Pagemap, Uffd};
use rangemap::RangeMap;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What there is one of in a process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Equal to `word` while this is still the process that made it; never 0.
    generation: u64,
    word: &'static AtomicU64,
    maps: Option<Maps>,
    uffd: OnceLock<Result<Uffd, Errno>>,
    batch: OnceLock<Option<Batch>>,
    pagemap: OnceLock<Option<Pagemap>>,
    /// Whether page tables of a file's mapping can be moved away from under it.
    pub moves_files: OnceLock<bool>,
    /// Batches were found not to work here.
    no_batch: AtomicBool,
    live: Mutex<Live>,
    ballast: Ballast,
}

/// The live spaces: which addresses they cover.
#[derive(Debug, Default)]
struct Live {
    covered: RangeMap<usize, u64>,
    last: u64,
    spaces: usize,
}

/// Proof that a range of addresses is entered as one live space's.
#[derive(Debug)]
pub(crate) struct Entry(u64);

impl Process {
    /// The process that is running, made at the first call and in each forked child.
    pub fn current(op: Op) -> Result<&'static Process, Error> {
        static CURRENT: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let word = sys::wiped_on_fork().map_err(|e| Error::os(op, Call::Mmap, e, Span::NONE))?;
        loop {
            let generation = word.load(Ordering::Acquire);
            if generation != 0 {
                // SAFETY: only leaked boxes are stored below.
                #[expect(unsafe_code, reason = "a leaked box behind an atomic pointer")]
                let current = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
                match current {
                    Some(current) if current.generation == generation => return Ok(current),
                    // Another thread is between its two stores below.
                    _ => std::thread::yield_now(),
                }
                continue;
            }
            let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
            let made = Box::new(Process {
                generation: fresh,
                word,
                maps: Maps::open().ok(),
                uffd: OnceLock::new(),
                batch: OnceLock::new(),
                pagemap: OnceLock::new(),
                moves_files: OnceLock::new(),
                no_batch: AtomicBool::new(false),
                live: Mutex::default(),
                ballast: Ballast::default(),
            });
            // The word names the one maker; a fork between the two stores wipes it again.
            if word.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                CURRENT.store(Box::into_raw(made), Ordering::Release);
            }
        }
    }

    /// A number that no other process has which was forked from this one or from which this one was; not 0.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this is still the process that made it, and not a forked child.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.word.load(Ordering::Acquire) == self.generation
    }

    /// The kernel's list of mappings; `None` where /proc could not be opened.
    pub fn maps(&self) -> Option<&Maps> {
        self.maps.as_ref()
    }

    /// A failed system call of `op` on `asked` as an error: at the mapping limit `Limit` with the
    /// numbers, of sealed memory `RefusedMemory`.
    pub fn failed(&self, op: Op, asked: Span, call: Call, errno: Errno) -> Error {
        match errno {
            Errno::NOMEM => self
                .at_mapping_limit()
                .map(|(count, limit)| Error::limit(op, asked, count, limit))
                .unwrap_or(Error::os(op, call, errno, asked)),
            Errno::PERM if op != Op::Region && call.maps() => {
                Error::refused(op, asked, asked, Why::Sealed)
            }
            errno => Error::os(op, call, errno, asked),
        }
    }

    /// Count and limit of mappings, where they are too close for another one. The count costs a read
    /// of the whole list, 13 ms at the usual limit: only asked after a failure.
    fn at_mapping_limit(&self) -> Option<(usize, usize)> {
        /// mremap(2) refuses within four of the limit, and splitting takes two.
        const NEAR: usize = 6;
        let limit = sys::max_map_count()?;
        let count = self.maps()?.count().ok()?;
        (count + NEAR >= limit).then_some((count, limit))
    }

    pub fn ballast(&self) -> &Ballast {
        &self.ballast
    }

    pub fn uffd(&self) -> Result<&Uffd, Errno> {
        self.uffd.get_or_init(Uffd::open).as_ref().map_err(|&errno| errno)
    }

    /// Advice in batches, as long as that is not known to fail. Not behind a filter of system calls, which
    /// may kill a process for an unusual one.
    pub fn batch(&self) -> Option<&Batch> {
        if self.no_batch.load(Ordering::Relaxed) {
            return None;
        }
        let open = || if sys::is_filtered() { None } else { Batch::open().ok() };
        self.batch.get_or_init(open).as_ref()
    }

    /// Which pages are mapped in; `None` where that cannot be opened.
    pub fn pagemap(&self) -> Option<&Pagemap> {
        self.pagemap.get_or_init(|| Pagemap::open().ok()).as_ref()
    }

    pub fn no_batch(&self) {
        self.no_batch.store(true, Ordering::Relaxed);
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a space's addresses; the range of another live space that they meet is the error. The
    /// first space of a process lays the ballast.
    pub fn enter(&self, space: Span) -> Result<Entry, Refusal> {
        let mut live = self.live();
        if let Some((met, _)) = live.covered.overlapping(space.start..space.end).next() {
            return Err(Refusal::Overlap(met.clone().into()));
        }
        if live.spaces == 0 {
            self.ballast.take().map_err(|errno| {
                // Counted while there is still what could be had of it.
                let limit = (errno == Errno::NOMEM).then(|| self.at_mapping_limit()).flatten();
                self.ballast.give_back();
                Refusal::Ballast(errno, limit)
            })?;
        }
        live.spaces += 1;
        live.last += 1;
        let entry = Entry(live.last);
        live.covered.insert(space.start..space.end, entry.0);
        Ok(entry)
    }

    /// Enters more addresses of a space: those by which it grew, and those whose pages it was lent.
    pub fn extend(&self, entry: &Entry, grown: Span) -> Result<(), Refusal> {
        let mut live = self.live();
        if let Some((met, _)) = live.covered.overlapping(grown.start..grown.end).next() {
            return Err(Refusal::Overlap(met.clone().into()));
        }
        live.covered.insert(grown.start..grown.end, entry.0);
        Ok(())
    }

    /// Takes addresses off the list that [`Process::extend`] entered.
    pub fn retract(&self, entered: Span) {
        self.live().covered.remove(entered.start..entered.end);
    }

    /// Takes a space's addresses off the list; the last one takes the ballast along.
    pub fn leave(&self, entry: &Entry, space: Span) {
        let mut live = self.live();
        debug_assert_eq!(live.covered.get(&space.start), Some(&entry.0));
        live.covered.remove(space.start..space.end);
        live.spaces -= 1;
        if live.spaces == 0 {
            self.ballast.give_back();
        }
    }
}

/// Why [`Process::enter`] refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Overlap(Span),
    /// The error, and count and limit of mappings where that was it.
    Ballast(Errno, Option<(usize, usize)>),
}
