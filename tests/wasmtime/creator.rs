//! The safe way: Wasmtime asks for its memories and gets them inside a reserved [`Space`].
//!
//! No promise has to be kept by whoever ties: the addresses are ours, they outlive the store for
//! as long as anyone holds the space, and what grows grows inside them.
//!
//! Two things to know. `memory_init_cow(false)`: Wasmtime lays a data segment's image only over
//! maps of its own, and panics on a memory from elsewhere. And ties go below the memory's present
//! size: compiled code leaves out bounds checks because what lies behind is inaccessible.

use std::sync::{Arc, Mutex};

use pagetie::{Access, ErrorKind, Prot, Space, page};
use wasmtime::{Config, LinearMemory, MemoryCreator, MemoryType, Module};

use crate::guest::{DATA, Guest, LEN, WASM_PAGE, assert_faults, compile, pristine};
use crate::host::{pattern, read, region};

/// A linear memory: the readable and writable start of a reserved space.
struct Reserved {
    space: Arc<Space>,
    len: usize,
    capacity: usize,
}

// SAFETY: the space is page aligned, never moves, and lives as long as `self`. `[0, len)` is
// readable and writable; all behind it, the guard included, stays inaccessible until `grow_to`.
unsafe impl LinearMemory for Reserved {
    fn byte_size(&self) -> usize {
        self.len
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        wasmtime::ensure!(new_size <= self.capacity, "beyond what was reserved");
        if new_size > self.len {
            self.space.protect(self.len..new_size, Prot::ReadWrite)?;
            self.len = new_size;
        }
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.space.as_ptr()
    }
}

/// Reserves a space for each memory and keeps it for the host to tie into.
#[derive(Clone, Default)]
struct Creator(Arc<Mutex<Vec<Arc<Space>>>>);

impl Creator {
    /// The space of the guest's memory, which the caller now holds as well.
    fn take(&self, guest: &Guest) -> Arc<Space> {
        let mut spaces = self.0.lock().expect("no test panics with the lock");
        let i = spaces.iter().position(|space| space.as_ptr() == guest.addr()).expect("made here");
        spaces.swap_remove(i)
    }
}

// SAFETY: each memory is zero filled and its own, reserved to the size that was asked for with
// the guard behind it.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let capacity = reserved.or(maximum).unwrap_or(0).max(minimum);
        let space = Space::reserve(capacity + guard).map_err(|error| error.to_string())?;
        let space = Arc::new(space);
        let mut memory = Reserved { space: Arc::clone(&space), len: 0, capacity };
        memory.grow_to(minimum).map_err(|error| error.to_string())?;
        self.0.lock().map_err(|error| error.to_string())?.push(space);
        Ok(Box::new(memory))
    }
}

fn host_memory() -> (Creator, Module) {
    let creator = Creator::default();
    let mut config = Config::new();
    config.with_host_memory(Arc::new(creator.clone())).memory_init_cow(false);
    (creator, compile(&config))
}

#[test]
fn ties_in_a_reserved_memory() {
    let page = page::size();
    let (creator, module) = host_memory();
    let mut guest = Guest::new(&module);
    let space = creator.take(&guest);
    assert!(guest.bytes(0..LEN) == pristine());

    let region = region(3 * page, 1);
    let at = 2 * WASM_PAGE - page;
    for access in [Access::CopyOnWrite, Access::ReadOnly, Access::ReadWrite] {
        let tie = space.tie(at, &region, .., access).expect("a tie");
        assert_eq!(guest.bytes(at..at + 3 * page), pattern(3 * page, 1));
        match access {
            Access::ReadOnly => assert_faults(guest.store(at, 0x22)),
            _ => guest.store(at, 0x22).expect("writable"),
        }
        let first = if access == Access::ReadWrite { 0x22 } else { pattern(1, 1)[0] };
        assert_eq!(read(&region, 0..1), [first]);
        tie.untie().expect("nobody else was here");
        assert!(guest.bytes(0..LEN) == pristine(), "{access:?}");
    }
    guest.fill(0..LEN, 0x23).expect("all of it is writable");
    assert_faults(guest.load(LEN));
}

#[test]
fn grows_in_reserved_addresses() {
    let page = page::size();
    let (creator, module) = host_memory();
    let mut guest = Guest::new(&module);
    let space = creator.take(&guest);
    let start = guest.addr();
    let region = region(2 * page, 2);
    let low = space.tie(LEN - 2 * page, &region, .., Access::ReadOnly).expect("a tie");

    assert_faults(guest.load(LEN));
    guest.grow(LEN);
    assert_eq!(guest.addr(), start);
    // The space has been as large as that from the beginning: nobody has to tell it.
    let high = space.tie(LEN, &region, .., Access::ReadWrite).expect("a tie in the grown part");
    assert!(low.is_live());
    guest.store(LEN + 1, 77).expect("writable");
    assert_eq!(guest.load(LEN - 2 * page + 1).expect("readable"), 77);
    assert_faults(guest.store(LEN - 2 * page, 1));

    high.untie().expect("nobody else was here");
    assert!(guest.bytes(LEN..2 * LEN) == vec![0; LEN]);
    guest.fill(LEN..2 * LEN, 0x24).expect("all of it is writable");
    assert_faults(guest.load(2 * LEN));
}

#[test]
fn space_outlives_the_store() {
    let page = page::size();
    let (creator, module) = host_memory();
    let region = region(2 * page, 3);
    let mut guest = Guest::new(&module);
    let space = creator.take(&guest);
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("a tie");
    guest.store(1, 66).expect("writable");

    // The store goes first; addresses and tie stay until the last holder lets go.
    drop(guest);
    drop(module);
    assert!(tie.is_live());
    assert_eq!(space.ties().len(), 1);
    tie.untie().expect("the addresses are still ours");
    let tie = space.tie(page, &region, ..page, Access::ReadOnly).expect("ties as before");
    drop(space);
    assert!(!tie.is_live());
    tie.untie().expect("it has ended");
    let mut expected = pattern(2 * page, 3);
    expected[1] = 66;
    assert_eq!(read(&region, 0..2 * page), expected);
}

#[test]
fn reserved_memory_cannot_be_borrowed_as_well() {
    let (creator, module) = host_memory();
    let guest = Guest::new(&module);
    let space = creator.take(&guest);
    assert_eq!(space.as_ptr(), guest.addr());
    // SAFETY: refused.
    let error = unsafe { Space::borrow(guest.addr(), DATA.end.next_multiple_of(WASM_PAGE)) }
        .expect_err("a reserved space covers it");
    assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
}
