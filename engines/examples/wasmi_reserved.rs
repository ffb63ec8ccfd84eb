//! wasmi whose memory lives in a reserved space: `Memory::new_static` takes bytes of the host's, and
//! they are pagetie's. It starts on a page, and grows without moving.
//!
//! The guest must import its memory for that, which compilers have a flag for
//! (`-C link-arg=--import-memory`); this one is rewritten by hand.
//!
//! cargo run -p engines --example wasmi_reserved

#![allow(unsafe_code, reason = "wasmi wants bytes that live for ever, and it alone uses these")]

use std::slice;
use std::sync::Arc;

use engines::{Called, Engine as _, GUEST, Guest as _, Result};
use pagetie::{Access, Prot, Region, Space, page};
use wasmi::{Engine, Instance, Linker, Memory, MemoryType, Module, Store, Val};

/// What the guest begins with and may grow to, in pages of 64 KiB.
const PAGES: (u32, u32) = (4, 16);
const WASM_PAGE: usize = 65536;

/// An engine and the guest's code.
pub struct Wasmi {
    module: Module,
}

/// An instance. The store goes before the space that its memory lives in.
pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    space: Arc<Space>,
}

impl engines::Engine for Wasmi {
    type Guest = Guest;

    fn new() -> Result<Self> {
        let own = r#"(memory (export "memory") 4 16)"#;
        let imported = r#"(memory (export "memory") (import "host" "memory") 4 16)"#;
        Ok(Self { module: Module::new(&Engine::default(), GUEST.replace(own, imported))? })
    }

    fn open(&self) -> Result<Guest> {
        let mut store = Store::new(self.module.engine(), ());
        let space = Arc::new(Space::reserve(PAGES.1 as usize * WASM_PAGE)?);
        space.protect(.., Prot::ReadWrite)?;
        // SAFETY: the space is readable and writable memory that does not move. It lives longer than
        // the store, so for as long as wasmi uses the bytes; nobody else makes references to them.
        let bytes = unsafe { slice::from_raw_parts_mut(space.as_ptr(), space.len()) };
        let ty = MemoryType::new(PAGES.0, Some(PAGES.1));
        let memory = Memory::new_static(&mut store, ty, bytes)?;
        let mut linker = Linker::new(self.module.engine());
        linker.define("host", "memory", memory)?;
        let instance = linker.instantiate_and_start(&mut store, &self.module)?;
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
    let region = Region::new(4 * page::size().max(16384))?;
    region.write_at(0, b"host bytes")?;
    let mut guest = Wasmi::new()?.open()?;
    let tie = guest.space.tie(WASM_PAGE, &region, .., Access::CopyOnWrite)?;
    println!("the guest loads {:?}", guest.call("load", &[65536])?);
    println!("its stores stay private: {:?}", guest.call("store", &[65536, 1])?);
    println!("so it loads {:?}", guest.call("load", &[65536])?);
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
