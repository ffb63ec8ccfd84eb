//! Wasmtime with its own memories: by default each has 4 GiB of addresses and grows in place.
//!
//! cargo run -p engines --example wasmtime

#![allow(unsafe_code, reason = "lending an engine's memory is a promise that only we can make")]

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Region, Space, page};
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, Trap, Val};

/// An engine and the guest's code.
pub struct Wasmtime {
    module: Module,
}

/// An instance: its memory lives as long as the store.
pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Wasmtime {
    fn with(config: &Config) -> Result<Self> {
        Ok(Self { module: Module::new(&Engine::new(config)?, GUEST)? })
    }
}

impl engines::Engine for Wasmtime {
    type Guest = Guest;

    fn new() -> Result<Self> {
        Self::with(&Config::new())
    }

    fn open(&self) -> Result<Guest> {
        let mut store = Store::new(self.module.engine(), ());
        let instance = Instance::new(&mut store, &self.module, &[])?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("the guest has no memory")?;
        Ok(Guest { store, instance, memory })
    }
}

impl engines::Guest for Guest {
    fn memory(&self) -> (*mut u8, usize) {
        (self.memory.data_ptr(&self.store), self.memory.data_size(&self.store))
    }

    fn call(&mut self, name: &str, args: &[i32]) -> Result<Called> {
        let function = self.instance.get_func(&mut self.store, name).ok_or("no such export")?;
        let args: Vec<Val> = args.iter().map(|&arg| Val::I32(arg)).collect();
        let mut result = [Val::I32(0)];
        match function.call(&mut self.store, &args, &mut result) {
            Ok(()) => Ok(Called::Returned(result[0].unwrap_i32())),
            // A fault of compiled code arrives here too: Wasmtime's signal handler makes it a trap.
            Err(error) if error.is::<Trap>() => Ok(Called::Trapped),
            Err(error) => Err(error.into()),
        }
    }
}

/// No addresses in reserve: a memory that grows is copied to another place. Untie before that.
pub struct Moving(Wasmtime);

impl engines::Engine for Moving {
    type Guest = Guest;

    fn new() -> Result<Self> {
        let mut config = Config::new();
        config.memory_reservation(0).memory_reservation_for_growth(0);
        Ok(Self(Wasmtime::with(&config)?))
    }

    fn open(&self) -> Result<Guest> {
        self.0.open()
    }
}

/// The embedder's story: a host's pages in the guest's memory, and back.
pub fn main() -> Result<()> {
    let region = Region::new(4 * page::size().max(16384))?;
    region.write_at(0, b"host bytes")?;

    let engine = Wasmtime::new()?;
    let mut guest = engine.open()?;
    let (start, len) = guest.memory();
    // SAFETY: The four promises of `borrow`.
    // 1. The memory is plain data, and Wasmtime relies on nothing but its bytes.
    // 2. It stays: `guest` is dropped after `space`, and grows in its own 4 GiB.
    // 3. Nobody else maps anything there: the guest runs in this thread only, between our calls.
    // 4. No reference into it is made while `space` lives.
    let space = unsafe { Space::borrow(start, len) }?;

    let tie = space.tie(65536, &region, .., Access::ReadOnly)?;
    println!("the guest loads {:?}", guest.call("load", &[65536])?);
    println!("and storing there is {:?}", guest.call("store", &[65536, 1])?);
    tie.untie()?;
    println!("untied, it loads {:?}", guest.call("load", &[65536])?);

    // Growing leaves ties alone. The space is told, so that it reaches the new pages.
    let tie = space.tie(65536, &region, .., Access::ReadWrite)?;
    guest.call("grow", &[1])?;
    let (start, len) = guest.memory();
    // SAFETY: as above, for the new length.
    unsafe { space.grown_to(start, len) }?;
    guest.call("store", &[65536, i32::from(b'H')])?;
    let mut bytes = [0; 10];
    region.read_at(0, &mut bytes)?;
    println!("after growing the host reads {:?}", String::from_utf8_lossy(&bytes));
    tie.untie()?;
    Ok(())
}
