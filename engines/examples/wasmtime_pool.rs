//! Wasmtime with its pool: memories are slots that one instance after another gets. How a slot is reset
//! depends on the configuration, and none of the ways knows of ties: so end them all before the store
//! is dropped, with `untie_all`, and close nothing where that fails.
//!
//! Ties keep what they cover (the default). With `Covered::Discard` zeros would lie where the slot's
//! image of the data segments was, and the next instance would begin with those.
//!
//! cargo run -p engines --example wasmtime_pool

#![allow(unsafe_code, reason = "lending an engine's memory is a promise that only we can make")]

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Region, Space, page};
use wasmtime::{Config, Enabled, Engine, Instance, InstanceAllocationStrategy, Memory, Module};
use wasmtime::{PoolingAllocationConfig, Store, Trap, Val};

/// An engine and the guest's code.
pub struct Pool {
    module: Module,
}

/// An instance: its slot goes back to the pool with the store.
pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Pool {
    fn with(pool: &PoolingAllocationConfig) -> Result<Self> {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool.clone()));
        Ok(Self { module: Module::new(&Engine::new(&config)?, GUEST)? })
    }

    fn start(&self) -> Result<Guest> {
        let mut store = Store::new(self.module.engine(), ());
        let instance = Instance::new(&mut store, &self.module, &[])?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("the guest has no memory")?;
        Ok(Guest { store, instance, memory })
    }
}

/// Few slots, so that the next instance is sure to get a used one.
fn small() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(4).max_memory_size(1 << 24);
    pool
}

impl engines::Engine for Pool {
    type Guest = Guest;

    /// A slot is emptied with madvise.
    fn new() -> Result<Self> {
        Self::with(&small())
    }

    fn open(&self) -> Result<Guest> {
        self.start()
    }
}

/// The first bytes of a slot are written with zeros, or its image, and only the rest is emptied.
pub struct KeepResident(Pool);

impl engines::Engine for KeepResident {
    type Guest = Guest;

    fn new() -> Result<Self> {
        Ok(Self(Pool::with(small().linear_memory_keep_resident(1 << 20))?))
    }

    fn open(&self) -> Result<Guest> {
        self.0.start()
    }
}

/// The same, of pages only that the kernel says were written: `PAGEMAP_SCAN`, Linux 6.7.
pub struct PagemapScan(Pool);

impl engines::Engine for PagemapScan {
    type Guest = Guest;

    fn new() -> Result<Self> {
        let mut pool = small();
        pool.linear_memory_keep_resident(1 << 20).pagemap_scan(Enabled::Yes);
        Ok(Self(Pool::with(&pool)?))
    }

    fn open(&self) -> Result<Guest> {
        self.0.start()
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
            Err(error) if error.is::<Trap>() => Ok(Called::Trapped),
            Err(error) => Err(error.into()),
        }
    }
}

pub fn main() -> Result<()> {
    let region = Region::new(4 * page::size().max(16384))?;
    region.write_at(0, b"host bytes")?;
    let pool = Pool::new()?;
    for tenant in 0..3 {
        let mut guest = pool.open()?;
        println!(
            "tenant {tenant} at {:?} loads {:?}",
            guest.memory().0,
            guest.call("load", &[65536])?
        );
        let (start, len) = guest.memory();
        // SAFETY: The four promises of `borrow`.
        // 1. The memory is plain data, and Wasmtime relies on nothing but its bytes.
        // 2. It stays this guest's: `untie_all` below comes before `guest` is dropped.
        // 3. Nobody else maps anything there: the guest runs in this thread only.
        // 4. No reference into it is made while `space` lives.
        let space = unsafe { Space::borrow(start, len) }?;
        let _tie = space.tie(65536, &region, .., Access::ReadWrite)?;
        println!("tied, it loads {:?}", guest.call("load", &[65536])?);
        guest.call("store", &[65536, tenant])?;
        // Where this fails, the slot must not be recycled: keep the guest, or end the process.
        if let Err(error) = space.untie_all() {
            std::mem::forget(guest);
            return Err(error.into());
        }
    }
    Ok(())
}
