//! Wasmtime whose memories live in reserved spaces: it asks a `MemoryCreator` for addresses, and gets
//! pagetie's. Then there is no promise to keep about who owns them.
//!
//! Two things to know. `memory_init_cow(false)`: Wasmtime lays the image of a data segment only over
//! maps of its own, and panics on a memory from elsewhere. And ties go below the memory's present size:
//! compiled code leaves out bounds checks, since what lies behind is inaccessible.
//!
//! cargo run -p engines --example wasmtime_reserved

#![allow(unsafe_code, reason = "Wasmtime's traits for memories are promises")]

use std::sync::{Arc, Mutex};

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Prot, Region, Space, page};
use wasmtime::{Config, Engine, Instance, LinearMemory, Memory, MemoryCreator, MemoryType};
use wasmtime::{Module, Store, Trap, Val};

/// A linear memory: the readable and writable start of a reserved space.
struct Reserved {
    space: Arc<Space>,
    len: usize,
    capacity: usize,
}

// SAFETY: the space is page aligned, never moves, and lives as long as `self`. `[0, len)` is readable
// and writable; all behind it, the guard included, is inaccessible until `grow_to`.
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

/// Reserves a space for each memory, and keeps it until the host takes it to tie into.
#[derive(Clone, Default)]
struct Creator(Arc<Mutex<Vec<Arc<Space>>>>);

// SAFETY: each memory is zero filled and its own, reserved to the size that was asked for with the guard
// behind it.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> std::result::Result<Box<dyn LinearMemory>, String> {
        let capacity = reserved.or(maximum).unwrap_or(0).max(minimum);
        let space = Space::reserve(capacity + guard).map_err(|error| error.to_string())?;
        let space = Arc::new(space);
        let mut memory = Reserved { space: Arc::clone(&space), len: 0, capacity };
        memory.grow_to(minimum).map_err(|error| error.to_string())?;
        self.0.lock().map_err(|error| error.to_string())?.push(space);
        Ok(Box::new(memory))
    }
}

pub struct Wasmtime {
    module: Module,
    creator: Creator,
}

pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    space: Arc<Space>,
}

impl engines::Engine for Wasmtime {
    type Guest = Guest;

    fn new() -> Result<Self> {
        let creator = Creator::default();
        let mut config = Config::new();
        config.with_host_memory(Arc::new(creator.clone())).memory_init_cow(false);
        Ok(Self { module: Module::new(&Engine::new(&config)?, GUEST)?, creator })
    }

    fn open(&self) -> Result<Guest> {
        let mut store = Store::new(self.module.engine(), ());
        let instance = Instance::new(&mut store, &self.module, &[])?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("the guest has no memory")?;
        let start = memory.data_ptr(&store);
        let mut spaces = self.creator.0.lock().map_err(|error| error.to_string())?;
        let made = spaces.iter().position(|space| space.as_ptr() == start);
        let space = spaces.swap_remove(made.ok_or("the memory is from elsewhere")?);
        Ok(Guest { store, instance, memory, space })
    }
}

impl engines::Guest for Guest {
    fn memory(&self) -> (*mut u8, usize) {
        (self.memory.data_ptr(&self.store), self.memory.data_size(&self.store))
    }

    fn space(&self) -> Option<Arc<Space>> {
        Some(Arc::clone(&self.space))
    }

    fn call(&mut self, name: &str, args: &[i32]) -> Result<Called> {
        let function = self.instance.get_func(&mut self.store, name).ok_or("no such export")?;
        let args: Vec<Val> = args.iter().map(|&arg| Val::I32(arg)).collect();
        let mut result = [Val::I32(0)];
        match function.call(&mut self.store, &args, &mut result) {
            Ok(()) => Ok(Called::Returned(result[0].unwrap_i32())),
            Err(error) if error.is::<Trap>() => Ok(Called::Trapped),
            Err(error) => Err(error.into()),
        }
    }
}

pub fn main() -> Result<()> {
    let region = Region::new(4 * page::size().max(16384))?;
    region.write_at(0, b"host bytes")?;
    let mut guest = Wasmtime::new()?.open()?;
    let tie = guest.space.tie(65536, &region, .., Access::ReadOnly)?;
    println!("the guest loads {:?}", guest.call("load", &[65536])?);
    println!("and storing there is {:?}", guest.call("store", &[65536, 1])?);
    // It grows in its space, which knows of these addresses already.
    guest.call("grow", &[1])?;
    println!(
        "it has {} bytes now, and loads {:?}",
        guest.memory().1,
        guest.call("load", &[65536])?
    );
    tie.untie()?;
    println!("untied, it loads {:?}", guest.call("load", &[65536])?);
    Ok(())
}
