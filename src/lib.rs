//! pagetie.

#[cfg(not(target_os = "linux"))]
compile_error!("pagetie is for Linux: it is built on memfd, MAP_FIXED and MREMAP_DONTUNMAP");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("pagetie needs 64-bit addresses");

mod alias;
mod ballast;
mod beliefs;
mod discard;
mod error;
mod inspect;
mod keep;
mod ledger;
mod list;
mod options;
pub mod page;
mod process;
mod protect;
mod region;
mod reservation;
mod space;
mod sys;
mod tie;
mod untie;
mod zeros;

pub use error::{Error, ErrorKind, Result, UntieError};
pub use inspect::Mapping;
pub use options::{Access, Covered, Prefault, Prot, TieOptions, TieSpec};
pub use region::{HugePages, Region, RegionBuilder};
pub use space::{Space, TieInfo};
pub use tie::Tie;

const _: () = {
    const fn thread_safe<T: Send + Sync + 'static>() {}
    thread_safe::<Region>();
    thread_safe::<RegionBuilder>();
    thread_safe::<Space>();
    thread_safe::<Tie>();
    thread_safe::<Error>();
    thread_safe::<UntieError>();
};
