//! Pages tied into the linear memory of a real engine: Wasmtime, with its default allocator, with
//! memories that move when they grow, with its pool, and with memories that live in a reserved
//! [`pagetie::Space`].
//!
//! Shared memories are not covered: they need Wasmtime's `threads` feature, which the
//! dev-dependency leaves out.

#![allow(unsafe_code, reason = "borrows the engine's memory and puts its own maps in freed places")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "wasmtime/access.rs"]
mod access;
#[path = "wasmtime/creator.rs"]
mod creator;
#[path = "wasmtime/grow.rs"]
mod grow;
#[path = "wasmtime/guest.rs"]
mod guest;
#[path = "wasmtime/host.rs"]
mod host;
#[path = "wasmtime/pool.rs"]
mod pool;
#[path = "wasmtime/stream.rs"]
mod stream;
#[path = "wasmtime/teardown.rs"]
mod teardown;
