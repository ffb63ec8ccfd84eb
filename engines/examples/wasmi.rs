//! wasmi with a memory of its own: bytes from malloc. They begin somewhere in a page, so ties lie at the
//! pages between, and growing moves them: untie before. wasmi_reserved.rs is the better way.
//!
//! cargo run -p engines --example wasmi

#![allow(unsafe_code, reason = "lending an engine's memory is a promise that only we can make")]

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Region, Space, page};
use wasmi::{Engine, Instance, Linker, Memory, Module, Store, Val};

/// An engine and the guest's code.
pub struct Wasmi {
    module: Module,
}

/// An instance: its memory lives as long as the store.
pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl engines::Engine for Wasmi {
    type Guest = Guest;
    const IN_HEAP: bool = true;

    fn new() -> Result<Self> {
        Ok(Self { module: Module::new(&Engine::default(), GUEST)? })
    }

    fn open(&self) -> Result<Guest> {
        let mut store = Store::new(self.module.engine(), ());
        let linker = Linker::new(self.module.engine());
        let instance = linker.instantiate_and_start(&mut store, &self.module)?;
        let memory = instance.get_memory(&store, "memory").ok_or("the guest has no memory")?;
        Ok(Guest { store, instance, memory })
    }
}

impl engines::Guest for Guest {
    fn memory(&self) -> (*mut u8, usize) {
        (self.memory.data_ptr(&self.store), self.memory.data_size(&self.store))
    }

    fn call(&mut self, name: &str, args: &[i32]) -> Result<Called> {
        let function = self.instance.get_func(&self.store, name).ok_or("no such export")?;
        let args: Vec<Val> = args.iter().map(|&arg| Val::I32(arg)).collect();
        let mut result = [Val::I32(0)];
        match function.call(&mut self.store, &args, &mut result) {
            Ok(()) => Ok(Called::Returned(result[0].i32().ok_or("not an i32")?)),
            // Not a fault: an interpreter is native code, and a fault there is a SIGSEGV.
            Err(error) if error.as_trap_code().is_some() => Ok(Called::Trapped),
            Err(error) => Err(error.into()),
        }
    }
}

pub fn main() -> Result<()> {
    let page = page::size();
    let region = Region::new(2 * page)?;
    region.write_at(0, b"host bytes")?;
    let mut guest = Wasmi::new()?.open()?;
    let (start, len) = guest.memory();
    // SAFETY: The four promises of `borrow`, and that of `borrow_heap`.
    // 1. The memory is plain data, and wasmi relies on nothing but its bytes.
    // 2. It stays: `guest` is dropped after `space`, and does not grow while that lives.
    // 3. Nobody else maps anything there: the guest runs in this thread only, between our calls.
    // 4. No reference into it is made while `space` lives.
    // 5. It is freed with `guest` only.
    let space = unsafe { Space::borrow_heap(start, len) }?;

    // The first page behind 64 KiB, which the guest finds at another number at each start.
    let at = (start.addr() + 65536).next_multiple_of(page) - start.addr();
    let tie = space.tie(at, &region, .., Access::CopyOnWrite)?;
    println!("the guest loads {:?}", guest.call("load", &[at as i32])?);
    println!("its stores stay private: {:?}", guest.call("store", &[at as i32, 1])?);
    println!("so it loads {:?}", guest.call("load", &[at as i32])?);
    tie.untie()?;
    println!("untied, it loads {:?}", guest.call("load", &[at as i32])?);

    // Now it may grow, to wherever it likes.
    space.untie_all()?;
    drop(space);
    guest.call("grow", &[1])?;
    println!("it moved: {}", guest.memory().0 != start);
    Ok(())
}
