//! Wasmer with its Singlepass compiler, and memories of its own, which grow in place.
//!
//! cargo run -p engines --features wasmer --example wasmer (builds for minutes)

#![allow(unsafe_code, reason = "lending an engine's memory is a promise that only we can make")]

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Region, Space, page};
use wasmer::sys::{EngineBuilder, Singlepass};
use wasmer::{Engine, Instance, Memory, Module, Store, Value, imports};

/// An engine and the guest's code.
pub struct Wasmer {
    engine: Engine,
    module: Module,
}

/// An instance: its memory lives as long as the store.
pub struct Guest {
    store: Store,
    instance: Instance,
    memory: Memory,
}

impl engines::Engine for Wasmer {
    type Guest = Guest;

    fn new() -> Result<Self> {
        let engine: Engine = EngineBuilder::new(Singlepass::default()).engine().into();
        let module = Module::new(&engine, GUEST)?;
        Ok(Self { engine, module })
    }

    fn open(&self) -> Result<Guest> {
        let mut store = Store::new(self.engine.clone());
        let instance = Instance::new(&mut store, &self.module, &imports! {})?;
        let memory = instance.exports.get_memory("memory")?.clone();
        Ok(Guest { store, instance, memory })
    }
}

impl engines::Guest for Guest {
    fn memory(&self) -> (*mut u8, usize) {
        let view = self.memory.view(&self.store);
        (view.data_ptr(), view.data_size() as usize)
    }

    fn call(&mut self, name: &str, args: &[i32]) -> Result<Called> {
        let function = self.instance.exports.get_function(name)?;
        let args: Vec<Value> = args.iter().map(|&arg| Value::I32(arg)).collect();
        match function.call(&mut self.store, &args) {
            Ok(result) => Ok(Called::Returned(result[0].unwrap_i32())),
            // A fault arrives here too, also one of memory.fill: Wasmer's signal handler makes it a trap.
            Err(error) if error.clone().to_trap().is_some() => Ok(Called::Trapped),
            Err(error) => Err(error.into()),
        }
    }
}

pub fn main() -> Result<()> {
    let region = Region::new(4 * page::size().max(16384))?;
    region.write_at(0, b"host bytes")?;
    let mut guest = Wasmer::new()?.open()?;
    let (start, len) = guest.memory();
    // SAFETY: The four promises of `borrow`.
    // 1. The memory is plain data, and Wasmer relies on nothing but its bytes.
    // 2. It stays: `guest` is dropped after `space`, and grows in addresses of its own.
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
