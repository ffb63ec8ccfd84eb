//! How a tie is made: its access, what becomes of the covered pages, prefaulting.

use crate::Region;
use std::ops::Range;

/// What a tie may do, for its whole life. [`Space::protect`](crate::Space::protect) stays below it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads only. Nobody can write the region through this tie, even where an engine makes the
    /// addresses writable behind pagetie's back (V8 does, for a whole memory, when it grows): such a
    /// store lands on a private page, and the region keeps its byte. A store traps or kills; which, and in
    /// which engine, says docs/engines.md in the repository: `memory.fill` and host functions kill in most.
    ///
    /// Source: mmap(2) `MAP_PRIVATE`, `PROT_READ`.
    #[doc(alias = "MAP_PRIVATE")]
    ReadOnly,
    /// Loads and stores: both sides see each other's writes at once. Not for read-only regions.
    ///
    /// Source: mmap(2) `MAP_SHARED`.
    #[doc(alias = "MAP_SHARED")]
    ReadWrite,
    /// Loads see the region; stores stay with this tie, page by page, and never fault. A page that
    /// was written stops following the region until [`Space::discard`](crate::Space::discard).
    ///
    /// Source: mmap(2) `MAP_PRIVATE`, `PROT_READ | PROT_WRITE`.
    #[doc(alias = "MAP_PRIVATE")]
    CopyOnWrite,
}

/// What addresses allow now. Never executable.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prot {
    /// Neither loads nor stores.
    None,
    /// Loads.
    Read,
    /// Loads and stores.
    ReadWrite,
}

/// What becomes of the pages that a tie covers.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Covered {
    /// Kept aside; untying brings them back with their bytes, protection and mapping.
    #[default]
    Keep,
    /// Thrown away; untying leaves pages of zeros. Cheaper: one system call for the tie, one for
    /// its end, and no mapping beside the alias.
    Discard,
}

/// Whether a tie's pages are mapped in before it appears.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Prefault {
    /// Each page faults in at its first access.
    #[default]
    No,
    /// All pages are mapped in, and keep following the region.
    ///
    /// From 512 KiB on the page tables are a view's of the region, which lends them and has them back when
    /// the tie ends: of a read-write tie the host view, where pages fault in again if the host reads them
    /// meanwhile; of a read-only tie one of the region's own, which is a mapping more from the first such tie
    /// to the end of the region. What is mapped in there already, because the host wrote it or another such
    /// tie was there before, is not mapped in again. (Not so of read-only ties above 1 GiB, nor where the
    /// host locked, protected or advised its view, nor under `RLIMIT_AS`.)
    ///
    /// Source: madvise(2) `MADV_POPULATE_READ`, Linux 5.14; mremap(2) `MREMAP_DONTUNMAP`; `PAGEMAP_SCAN`,
    /// Linux 6.7, without which all is populated.
    #[doc(alias = "MAP_POPULATE")]
    Populate,
    /// [`Access::CopyOnWrite`] only: everything is copied now, and the pages stop following the
    /// region.
    Copy,
}

/// How a tie is made. An [`Access`] alone converts into it.
///
/// ```
/// use pagetie::{Access, Covered, TieOptions};
/// let how = TieOptions::new(Access::ReadOnly).covered(Covered::Discard);
/// # let _ = how;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieOptions {
    pub(crate) access: Access,
    pub(crate) covered: Covered,
    pub(crate) prefault: Prefault,
    pub(crate) concurrent: bool,
}

impl TieOptions {
    /// A tie of this access that keeps what it covers, does not prefault, and asks that the covered
    /// range is quiet during the call.
    pub const fn new(access: Access) -> Self {
        Self { access, covered: Covered::Keep, prefault: Prefault::No, concurrent: false }
    }

    /// What becomes of the covered pages.
    pub const fn covered(self, covered: Covered) -> Self {
        Self { covered, ..self }
    }

    /// Whether pages are mapped in before the tie appears.
    pub const fn prefault(self, prefault: Prefault) -> Self {
        Self { prefault, ..self }
    }

    /// With `true`, other threads may read and write the covered range while [`Covered::Keep`] moves
    /// it aside: no write is lost, and no zero is read. Without it such a write can be lost.
    ///
    /// Refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where that moment cannot
    /// be closed: over a private mapping of a file, or without userfaultfd. A *system call* of another
    /// thread that reads or writes the range in that moment may fail with `EFAULT` instead of waiting.
    ///
    /// Source: userfaultfd(2) `UFFD_USER_MODE_ONLY`, Linux 5.11.
    #[doc(alias = "userfaultfd")]
    pub const fn concurrent(self, yes: bool) -> Self {
        Self { concurrent: yes, ..self }
    }
}

impl From<Access> for TieOptions {
    fn from(access: Access) -> Self {
        Self::new(access)
    }
}

/// One item of [`Space::tie_all`](crate::Space::tie_all).
#[derive(Clone, Debug)]
pub struct TieSpec<'r> {
    /// Where in the space, in bytes.
    pub at: usize,
    /// Whose pages.
    pub region: &'r Region,
    /// Which of its bytes.
    pub range: Range<usize>,
    /// How.
    pub options: TieOptions,
}
