//! Page aliasing for Linux: data that a host owns appears inside memory that somebody else owns, above
//! all a WebAssembly engine's linear memory, without being copied.
//!
//! One physical page can have many virtual addresses. pagetie makes of that a small, checked set of
//! verbs, for any engine whose memory start is known.
//!
//! ```text
//!    host code                                     guest code (wasm, JavaScript, ...)
//!    Region  [ page A | page B | page C ]            Space [ .... | page B | page C | .... ]
//!               ^ host view                                          ^ tie
//!               +----------- the same physical pages ---------------+
//! ```
//!
//! # Nouns
//!
//! - [`Region`]: pages that can be tied: new memory, a file, a descriptor from another process.
//! - [`Space`]: addresses that ties may be laid over: reserved by pagetie ([`Space::reserve`], safe), or
//!   borrowed from an engine ([`Space::borrow`], four promises).
//! - [`Tie`]: one live alias of a range of a region in a space.
//! - [`Window`]: a tie that slides along a region much larger than itself, to show any bytes of it.
//!
//! Handles own what they need and have no lifetimes. A tie keeps its region; the space owns the record of
//! every tie. They may be dropped in any order.
//!
//! # Verbs
//!
//! | verb | acts on | meaning |
//! |---|---|---|
//! | [`tie`](Space::tie), [`tie_all`](Space::tie_all) | addresses | from now on they show these pages of the region |
//! | [`retie`](Tie::retie) | addresses | the same place shows other pages, in one step |
//! | [`untie`](Tie::untie) | addresses | what was there before comes back |
//! | [`untie_all`](Space::untie_all) | the space | `Ok`: no alias of ours is left here |
//! | [`protect`](Space::protect) | addresses | what they allow, never above a tie's access |
//! | [`discard`](Space::discard), [`discard_many`](Space::discard_many) | the object behind them | the bytes go, through every address they have |
//! | [`park`](Tie::park), [`resume`](Parked::resume) | an alias | off its addresses and on again, in any space, without a page fault to follow |
//! | [`inspect`](Space::inspect) | the kernel | what is really mapped |
//!
//! # Example
//!
//! ```
//! use pagetie::{Access, Prot, Region, Space, page};
//!
//! // Addresses that a guest's memory could lie in: here ours, 64 pages, two of them memory.
//! let space = Space::reserve(64 * page::size())?;
//! space.protect(..2 * page::size(), Prot::ReadWrite)?;
//!
//! // The host's data, and its second page tied over the guest's first.
//! let region = Region::new(4 * page::size())?;
//! region.write_at(page::size(), b"not copied")?;
//! let tie = space.tie(0, &region, page::size()..2 * page::size(), Access::ReadOnly)?;
//! // SAFETY: the tie is live, and nobody writes the byte meanwhile.
//! assert_eq!(unsafe { space.as_ptr().read_volatile() }, b'n');
//!
//! // What was there before comes back.
//! tie.untie()?;
//! // SAFETY: the page is memory of the space, and nobody writes it.
//! assert_eq!(unsafe { space.as_ptr().read_volatile() }, 0);
//! # Ok::<(), pagetie::Error>(())
//! ```
//!
//! # Two addresses of one byte
//!
//! The compiler does not know that a tied byte has two addresses: after a plain write through one,
//! optimised code may return the old byte through the other. So safe code never gets `&[u8]` of memory
//! that can be tied, only relaxed copies ([`Region::read_at`], [`Region::write_at`]) and atomics
//! ([`Region::atomic_u8`]). Raw pointers are there for the rest; use them with volatile or atomic
//! access, on both sides.
//!
//! # What holds everywhere
//!
//! - A call that is refused has changed nothing; the exceptions say so. Misaligned input is refused,
//!   never rounded, and the error has the nearest valid values.
//! - Nothing is lost: what a tie covers is kept aside and comes back with its bytes, protection, lock and
//!   mapping, also at the mapping limit ([`Covered::Keep`], the default).
//! - Nothing is clobbered: before anything is undone the kernel is asked whether it still shows what was
//!   left there. If not, nothing is touched, and the answer is [`ErrorKind::Changed`].
//! - A forked child has no ties: its drops touch nothing, and every other call on a space or tie of its
//!   parent is [`ErrorKind::Ended`]. Regions stay usable there, shared with the parent.
//!
//! # What it needs
//!
//! Linux 5.14 or later, on a 64-bit machine, with /proc for borrowed spaces. Newer facilities of the
//! kernel are used where they are. See the README for limits, and in the repository docs/DESIGN.md for the
//! reasons and docs/engines.md for what each engine does with a tie.

#[cfg(not(target_os = "linux"))]
compile_error!("pagetie is for Linux: it is built on memfd, MAP_FIXED and MREMAP_DONTUNMAP");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("pagetie needs 64-bit addresses");

mod alias;
mod aside;
mod ballast;
mod beliefs;
mod discard;
mod error;
#[cfg(feature = "capi")]
mod ffi;
mod inspect;
mod keep;
mod ledger;
mod lender;
mod list;
mod loan;
mod options;
pub mod page;
mod park;
mod process;
mod protect;
mod region;
mod reservation;
mod restrictions;
mod space;
mod sys;
mod tie;
mod turns;
mod untie;
mod window;
mod zeros;

pub use error::{Error, ErrorKind, Result, ResumeError, UntieError};
pub use inspect::Mapping;
pub use loan::{GiveBackError, Loan};
pub use options::{Access, Covered, Prefault, Prot, TieOptions, TieSpec};
pub use park::Parked;
pub use region::{HugePages, Region, RegionBuilder};
pub use space::{Space, TieInfo};
pub use tie::Tie;
pub use window::{Preparer, Window};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// Every handle may be sent to and shared with other threads, and borrows nothing.
const _: () = {
    const fn thread_safe<T: Send + Sync + 'static>() {}
    thread_safe::<Region>();
    thread_safe::<RegionBuilder>();
    thread_safe::<Space>();
    thread_safe::<Tie>();
    thread_safe::<Error>();
    thread_safe::<UntieError>();
    thread_safe::<Parked>();
    thread_safe::<Window>();
    thread_safe::<Preparer>();
    thread_safe::<ResumeError>();
    thread_safe::<Loan>();
    thread_safe::<GiveBackError>();
};
