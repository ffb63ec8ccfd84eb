//! A guest sums a column that is much larger than its own memory, and nothing is copied.
//!
//! The column lives in a [`Region`]. A window in the guest's memory is tied to it; whenever the
//! guest asks for the next chunk, the host's callback reties the window: one system call.
//! Run it with `cargo run --release --example chunks`.

#![allow(unsafe_code, reason = "borrows the linear memory of the engine")]

use std::error::Error;

use pagetie::{Access, Region, Space, Tie};
use wasmtime::{Caller, Engine, Linker, Module, Store};

/// 64 MB of f64, against a guest memory of 2 MiB.
const ROWS: usize = 8_000_000;
/// The second half of the guest's memory.
const WINDOW: usize = 1 << 20;

const GUEST: &str = r#"(module
  (import "host" "next" (func $next (result i32)))
  (memory (export "memory") 32)
  (func (export "sum") (result f64)
    (local $sum f64) (local $at i32) (local $end i32)
    (block $done
      (loop $chunk
        (local.set $end (call $next)) ;; bytes in the window now, 0 at the end
        (br_if $done (i32.eqz (local.get $end)))
        (local.set $at (i32.const 0x100000))
        (local.set $end (i32.add (local.get $at) (local.get $end)))
        (loop $row
          (local.set $sum (f64.add (local.get $sum) (f64.load (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $row (i32.lt_u (local.get $at) (local.get $end))))
        (br $chunk)))
    (local.get $sum)))"#;

/// What the callback needs; it lives in the store.
struct Scan {
    column: Region,
    window: Option<Tie>,
    next: usize,
}

/// The guest's import: shows the next chunk and says how many bytes of it there are.
fn next(mut caller: Caller<'_, Scan>) -> wasmtime::Result<u32> {
    let scan = caller.data_mut();
    let left = ROWS * 8 - scan.next;
    let Some(window) = scan.window.as_mut().filter(|_| left > 0) else {
        return Ok(0);
    };
    window.retie(&scan.column, scan.next)?;
    let chunk = left.min(WINDOW);
    scan.next += chunk;
    Ok(chunk as u32)
}

fn main() -> Result<(), Box<dyn Error>> {
    let rows = || (0..ROWS).map(|row| (row % 1000) as f64 / 7.0);
    let bytes: Vec<u8> = rows().flat_map(f64::to_le_bytes).collect();
    // Whole windows, so that the last chunk has pages behind its end.
    let column = Region::new(bytes.len().next_multiple_of(WINDOW))?;
    column.write_at(0, &bytes)?;

    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "next", next)?;
    let scan = Scan { column: column.clone(), window: None, next: 0 };
    let mut store = Store::new(&engine, scan);
    let instance = linker.instantiate(&mut store, &Module::new(&engine, GUEST)?)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or("no memory exported")?;

    // SAFETY: the memory lives until the store ends, and is untied before that. What it shows
    // changes only in `next`, which has the store to itself; nobody keeps a reference into it.
    let space = unsafe { Space::borrow(memory.data_ptr(&store), memory.data_size(&store)) }?;
    store.data_mut().window = Some(space.tie(WINDOW, &column, ..WINDOW, Access::ReadOnly)?);

    let sum = instance.get_typed_func::<(), f64>(&mut store, "sum")?.call(&mut store, ())?;
    space.untie_all()?;

    assert_eq!(sum, rows().sum::<f64>(), "guest and host add the same rows in the same order");
    println!("{ROWS} rows, sum {sum}: the host's own sum is the same");
    println!("{} bytes seen through a window of {WINDOW}, 0 bytes copied", bytes.len());
    Ok(())
}
