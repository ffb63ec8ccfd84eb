//! The WebAssembly guest: `guest.wat` in Wasmtime. Nothing in here knows about ties.

use std::ops::Range;

use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

use crate::Result;
use crate::run::Findings;

/// An instance with its own memory. The end of that is a window: there the data to scan is put or
/// shown.
pub struct Guest {
    store: Store<()>,
    memory: Memory,
    window: usize,
    scan: TypedFunc<(u32, u32), ()>,
    crc32: TypedFunc<(), u32>,
    count: TypedFunc<u32, u64>,
}

pub fn compile() -> Result<Module> {
    Ok(Module::new(&Engine::default(), include_str!("guest.wat"))?)
}

impl Guest {
    pub fn new(module: &Module) -> Result<Self> {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[])?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("guest has no memory")?;
        let window = instance.get_global(&mut store, "window").ok_or("guest has no window")?;
        let window = window.get(&mut store).unwrap_i32() as usize;
        let scan = instance.get_typed_func(&mut store, "scan")?;
        let crc32 = instance.get_typed_func(&mut store, "crc32")?;
        let count = instance.get_typed_func(&mut store, "count")?;
        Ok(Self { store, memory, window, scan, crc32, count })
    }

    /// Where the guest's memory starts, and its length. It never grows, so it never moves.
    pub fn memory(&self) -> (*mut u8, usize) {
        (self.memory.data_ptr(&self.store), self.memory.data_size(&self.store))
    }

    /// Where the window is in the guest's memory: its start suits every page size.
    pub fn window(&self) -> Range<usize> {
        self.window..self.memory.data_size(&self.store)
    }

    /// The window's bytes, to copy data into.
    pub fn window_mut(&mut self) -> &mut [u8] {
        &mut self.memory.data_mut(&mut self.store)[self.window..]
    }

    /// Scans the first `len` bytes of the window, going on from the last scan.
    pub fn scan(&mut self, len: usize) -> Result<()> {
        Ok(self.scan.call(&mut self.store, (self.window as u32, len as u32))?)
    }

    /// What all scans together have found.
    pub fn findings(&mut self) -> Result<Findings> {
        let mut histogram = [0; 256];
        for (byte, count) in (0..).zip(&mut histogram) {
            *count = self.count.call(&mut self.store, byte)?;
        }
        Ok(Findings { crc32: self.crc32.call(&mut self.store, ())?, histogram })
    }
}
