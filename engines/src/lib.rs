//! What the suite asks of an engine written in Rust, or for it: [`Engine`] and [`Guest`].
//!
//! `engines/examples/` has one program an engine. Its `main` is what an embedder copies; the types above
//! it are what the suite drives. c-examples/engines/engine.h is the same for C and C++.

use std::error::Error;
use std::sync::Arc;

use pagetie::Space;

/// Every engine's errors are different.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The module that every engine runs. What it does is said there.
pub const GUEST: &str = include_str!("../../c-examples/engines/guest.wat");

/// An engine that has compiled [`GUEST`].
pub trait Engine: Sized + Sync {
    type Guest: Guest;

    /// Where the engine takes its memory from malloc, so that it may lie in `[heap]`.
    const IN_HEAP: bool = false;

    fn new() -> Result<Self>;

    /// Starts one more guest.
    fn open(&self) -> Result<Self::Guest>;
}

/// An instance of [`GUEST`]. Dropping it closes it.
pub trait Guest {
    /// Where its memory is now, and how long it is.
    fn memory(&self) -> (*mut u8, usize);

    /// The space that the memory lives in, where the embedder gave the engine addresses of pagetie's.
    /// `None`: the engine has memory of its own, to be borrowed.
    fn space(&self) -> Option<Arc<Space>> {
        None
    }

    /// Calls an export; all arguments and the one result are i32.
    fn call(&mut self, name: &str, args: &[i32]) -> Result<Called>;
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    Returned(i32),
    /// The guest trapped, and its host may go on.
    Trapped,
}

/// The version of a crate in this repository's Cargo.lock.
pub fn locked_version(name: &str) -> &'static str {
    let name = format!("name = \"{name}\"");
    let mut lines = include_str!("../../Cargo.lock").lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    version.unwrap_or("of an unknown version")
}
