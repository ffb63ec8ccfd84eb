//! The module that most of these tests run, and the engines that run it.

use std::{fmt::Write, ops::Range, sync::OnceLock};

use pagetie::{Space, page};
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, Trap, WasmParams, WasmResults};

pub const WASM_PAGE: usize = 64 * 1024;
/// What the guest starts with; it may grow to four times as much.
pub const LEN: usize = 16 * WASM_PAGE;
/// A data segment on both sides of a page boundary, whatever the page size.
pub const DATA: Range<usize> = 2 * WASM_PAGE - 300..2 * WASM_PAGE + 300;

/// The bytes of the data segment; none of them is zero.
fn data() -> impl Iterator<Item = u8> {
    (1..=200).cycle().take(DATA.len())
}

/// The pages that hold it.
pub fn data_pages() -> Range<usize> {
    page::round_down(DATA.start, page::size())
        ..page::round_up(DATA.end, page::size()).expect("far from the end")
}

/// The memory of an instance that has not run yet.
pub fn pristine() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    for (byte, value) in bytes[DATA].iter_mut().zip(data()) {
        *byte = value;
    }
    bytes
}

pub fn compile(config: &Config) -> Module {
    let data = data().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:02x}").expect("a string takes it");
        text
    });
    let text = format!(
        r#"(module
          (memory (export "memory") {pages} {most})
          (data (i32.const {at}) "{data}")
          (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
          (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "fill") (param i32 i32 i32)
            (memory.fill (local.get 0) (local.get 1) (local.get 2)))
          (func (export "copy") (param i32 i32 i32)
            (memory.copy (local.get 0) (local.get 1) (local.get 2)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "sum") (param $at i32) (param $end i32) (result i64)
            (local $sum i64)
            (loop $next
              (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
            (local.get $sum)))"#,
        pages = LEN / WASM_PAGE,
        most = 4 * LEN / WASM_PAGE,
        at = DATA.start,
    );
    let engine = Engine::new(config).expect("the engine takes this configuration");
    Module::new(&engine, text).expect("the module compiles")
}

/// Wasmtime's default: each memory has 4 GiB of addresses and grows in place.
pub fn plain() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| compile(&Config::new()))
}

/// No addresses in reserve: a memory that grows is copied to another place.
pub fn moving() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        compile(Config::new().memory_reservation(0).memory_reservation_for_growth(0))
    })
}

/// An instance and its memory.
pub struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    pub fn new(module: &Module) -> Self {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).expect("the module instantiates");
        let memory = instance.get_memory(&mut store, "memory").expect("exported");
        Self { store, instance, memory }
    }

    pub fn addr(&self) -> *mut u8 {
        self.memory.data_ptr(&self.store)
    }

    pub fn len(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// The whole memory, borrowed.
    pub fn space(&self) -> Space {
        // SAFETY: the memory is Wasmtime's, plain data that lives as long as the store; nothing
        // here keeps a reference into it across a call. A test that lets the memory go while it
        // is borrowed says so, and counts on `Changed` or `leak`.
        unsafe { Space::borrow(self.addr(), self.len()) }.expect("the memory can be borrowed")
    }

    /// A copy of what the memory shows now.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        self.memory.data(&self.store)[range].to_vec()
    }

    pub fn load(&mut self, at: usize) -> wasmtime::Result<u8> {
        let byte: u32 = self.call("load", at as u32)?;
        Ok(byte as u8)
    }

    pub fn store(&mut self, at: usize, byte: u8) -> wasmtime::Result<()> {
        self.call("store", (at as u32, u32::from(byte)))
    }

    pub fn fill(&mut self, range: Range<usize>, byte: u8) -> wasmtime::Result<()> {
        self.call("fill", (range.start as u32, u32::from(byte), range.len() as u32))
    }

    /// `memory.copy`: the bytes of `from` to `at`.
    pub fn copy(&mut self, at: usize, from: Range<usize>) -> wasmtime::Result<()> {
        self.call("copy", (at as u32, from.start as u32, from.len() as u32))
    }

    pub fn sum(&mut self, range: Range<usize>) -> wasmtime::Result<u64> {
        self.call("sum", (range.start as u32, range.end as u32))
    }

    /// `memory.grow` by the guest itself; where the memory starts may change.
    pub fn grow(&mut self, by: usize) {
        let before: i32 = self.call("grow", (by / WASM_PAGE) as u32).expect("growing never traps");
        assert_ne!(before, -1, "the engine can grow this memory by {by:#x}");
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, with: P) -> wasmtime::Result<R> {
        let function = self.instance.get_typed_func(&mut self.store, name)?;
        function.call(&mut self.store, with)
    }
}

/// Asserts that the guest met a page that it may not touch, and that this was a trap.
#[track_caller]
pub fn assert_faults<T: std::fmt::Debug>(result: wasmtime::Result<T>) {
    let error = result.expect_err("the access faults");
    assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{error:?}");
}
