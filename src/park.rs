//! [`Parked`]: an alias off its addresses, still warm.
//!
//! ```text
//!   tied       home [ alias, mapped in ]          aside [ what it covers ]
//!   parked     home [ what it covered  ]          place [ alias, mapped in ]
//! ```
//!
//! What a tie costs is not its system call but the page faults after it. A tie that is parked takes its
//! page tables along, and brings them where it is resumed: one mremap, and no fault follows. For a chunk
//! that many short programs look at, one after another, in this space or in others.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP`, of file maps since Linux 5.13.

#![allow(unsafe_code, reason = "moves aliases of ours")]

use crate::alias::Alias;
use crate::aside::{self, Aside};
use crate::error::{Error, Op, ResumeError, UntieError};
use crate::keep::Return;
use crate::lender::Lender;
use crate::options::Access;
use crate::space::State;
use crate::sys::{Call, Errno};
use crate::{Region, Result, Space, Tie, untie};
use std::fmt;

/// An alias that was taken off its addresses with [`Tie::park`], its pages still mapped in.
///
/// It keeps the region's pages alive, takes one mapping and the addresses of its length, and nothing
/// of a space. Private pages of a copy-on-write tie stay with it. Dropping it lets go of the alias.
///
/// ```
/// use pagetie::{Access, Region, Space, page};
/// let page = page::size();
/// let region = Region::new(page)?;
/// let (first, second) = (Space::reserve(4 * page)?, Space::reserve(4 * page)?);
/// let tie = first.tie(page, &region, .., Access::ReadWrite)?;
/// region.write_at(0, b"warm")?;
/// let parked = tie.park()?; // what the tie covered is back in the first space
/// let tie = parked.resume(&second, 2 * page)?;
/// // SAFETY: the tie is live, and nobody writes the byte now.
/// assert_eq!(unsafe { tie.as_ptr().read_volatile() }, b'w');
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a parked alias that is dropped is gone"]
pub struct Parked {
    alias: Alias,
    /// `None` once it was resumed.
    place: Option<Aside>,
}

impl Tie {
    /// Takes the alias off its addresses with its page tables, to be resumed elsewhere; what it covered
    /// comes back as with [`Tie::untie`].
    ///
    /// Pages of it that were locked are not locked while parked, nor afterwards, nor in a tie that comes
    /// back in an error. The alias has the
    /// protection of its access again, whatever [`Space::protect`] did.
    ///
    /// Worth it from about 2 MiB on, for pages that were touched or populated: page tables move whole
    /// where old and new addresses agree modulo 2 MiB, and page by page otherwise. A region of huge pages
    /// is mapped anew instead, since those do not move this way; that costs next to nothing.
    ///
    /// # Errors
    /// The tie comes back in the error, as live as before, except as [`Tie::untie`] says.
    /// - [`Ended`](crate::ErrorKind::Ended);
    /// - [`Changed`](crate::ErrorKind::Changed): as for [`Tie::untie`];
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): the kernel has the alias as several mappings,
    ///   since parts of it were advised differently (madvise), or since private pages were written in
    ///   parts that differed in protection; or it is older than Linux 5.13;
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory),
    ///   [`Os`](crate::ErrorKind::Os).
    ///
    /// # Threads
    /// A thread that reads the range sees each page old or new, never a fault; of a private page of a
    /// copy-on-write tie it may see the region's bytes in between. What another thread writes through
    /// such a tie during the call can be lost.
    ///
    /// # Source
    /// mremap(2) `MREMAP_DONTUNMAP`.
    #[doc(alias = "mremap")]
    pub fn park(self) -> Result<Parked, UntieError> {
        match self.take_off() {
            Ok(parked) => Ok(parked),
            Err(error) => Err(UntieError { error, tie: self }),
        }
    }

    fn take_off(&self) -> Result<Parked> {
        let (op, shared, record) = (Op::Park, &*self.shared, &*self.record);
        let (process, home) = (shared.process, record.pages);
        shared.check_fork(op)?;
        if !self.is_live() {
            return Err(Error::ended(op, false));
        }
        let mut state = shared.lock(op)?;
        let mut body = record.body();
        let now = untie::confirm(shared, &mut state, op, record, &mut body)?;
        let failed = |(call, errno)| match errno {
            Errno::INVAL if call == Call::Mremap => Error::unsupported(op, TOO_OLD, None),
            Errno::INVAL if call == Call::Mprotect => Error::unsupported(op, SEVERAL, None),
            _ => process.failed(op, shared.span(home), call, errno),
        };
        // SAFETY: the kernel just confirmed that these are our own alias's, of which no reference was
        // ever lent.
        let place = unsafe { aside::set_aside(process, &body.alias, home, &now, failed)? };
        let laid = body.alias.protection();
        let (zeros, State { beliefs, .. }) = (state.zeros, &mut *state);
        let how = Return {
            now: Some(&now),
            laid,
            zeros,
            beliefs: beliefs.as_mut(),
            undoing: false,
            insist_on_locks: true,
        };
        // SAFETY: at home lies what the kernel left of our alias.
        let brought = body.cover.as_mut().map(|cover| unsafe { cover.bring_back(how) });
        if let Some(Err(failed)) = brought {
            let restore = |left| {
                // SAFETY: moved off above, and what was covered has not come back to `left`.
                unsafe { aside::move_back(place, home, left, &now) };
            };
            return Err(untie::stopped(shared, &mut state, op, record, &mut body, failed, restore));
        }
        let lent = body.alias.lent && body.is_pristine(&now);
        let alias = Alias { lent, ..body.alias.clone() };
        untie::ended(&mut state, record, &mut body);
        Ok(Parked { alias, place: Some(place) })
    }
}

const SEVERAL: &str = "the kernel has the alias as several mappings, since parts of it were advised \
                       differently (madvise), or written while their protections differed";
const TOO_OLD: &str = "taking an alias off its addresses needs Linux 5.13";

impl Parked {
    /// Moves the alias into a space, at `at`: the space it came from, or any other. What is there is
    /// covered as the tie's options say, those it was made with.
    ///
    /// # Units
    /// `at`: bytes of the space, as for [`Space::tie`]. Page tables move whole where the addresses agree
    /// with those it was parked from modulo 2 MiB (1 GiB for a gigabyte and more).
    ///
    /// # Errors
    /// Those of [`Space::tie`]. The parked alias comes back in the error, and the memory is as it was.
    ///
    /// # Threads
    /// As [`Space::tie`].
    ///
    /// # Source
    /// mremap(2) `MREMAP_FIXED`.
    #[doc(alias = "mremap")]
    pub fn resume(mut self, space: &Space, at: usize) -> Result<Tie, ResumeError> {
        let Some(place) = self.place.as_ref().filter(|place| place.is_ours()) else {
            return Err(ResumeError { error: Error::ended(Op::Resume, true), parked: self });
        };
        match space.tie_parked(at, &self.alias, place.pages()) {
            Ok(tie) => {
                if let Some(place) = self.place.take() {
                    place.moved();
                }
                Ok(tie)
            }
            Err(error) => Err(ResumeError { error, parked: self }),
        }
    }

    /// Whose pages it shows.
    pub fn region(&self) -> &Region {
        &self.alias.region
    }

    /// The byte of the region that it begins with.
    pub fn offset(&self) -> usize {
        self.alias.offset
    }

    /// Its length in bytes: whole pages.
    pub fn len(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.pages().len())
    }

    /// Always false: an alias has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it may do once it is resumed.
    pub fn access(&self) -> Access {
        self.alias.options.access
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if self.alias.lent && place.is_ours() {
            Lender::receive(&self.alias, place);
        }
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("offset", &self.offset())
            .field("len", &self.len())
            .field("access", &self.access())
            .finish_non_exhaustive()
    }
}
