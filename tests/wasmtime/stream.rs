//! Data larger than the window: a running guest asks the host for the next chunk, and the host
//! reties the window under it.

use pagetie::{Access, Prefault, Region, Space, Tie, TieOptions};
use wasmtime::{Caller, Engine, Linker, Module, Store};

use crate::guest::WASM_PAGE;
use crate::host::read;

const WINDOW_AT: usize = 4 * WASM_PAGE;
const WINDOW: usize = 1 << 20;
const REGION: usize = 8 << 20;

/// Sums the words of each chunk that `next` announces and leaves the sum so far in its first word,
/// if `mark` says so.
const SUM: &str = r#"(module
  (import "host" "next" (func $next (result i32)))
  (memory (export "memory") 32)
  (func (export "run") (param $mark i32) (result i64)
    (local $sum i64) (local $at i32) (local $end i32)
    (block $done
      (loop $chunk
        (local.set $end (call $next))
        (br_if $done (i32.eqz (local.get $end)))
        (local.set $at (i32.const 0x40000))
        (local.set $end (i32.add (local.get $at) (local.get $end)))
        (loop $word
          (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $word (i32.lt_u (local.get $at) (local.get $end))))
        (if (local.get $mark) (then (i64.store (i32.const 0x40000) (local.get $sum))))
        (br $chunk)))
    (local.get $sum)))"#;

/// What the callback works with.
struct Stream {
    region: Region,
    window: Option<Tie>,
    next: usize,
}

/// The import: shows the next chunk and says how long it is; 0 at the end.
fn next(mut caller: Caller<'_, Stream>) -> wasmtime::Result<u32> {
    let stream = caller.data_mut();
    if stream.next == stream.region.len() {
        return Ok(0);
    }
    let window = stream.window.as_mut().expect("tied before the guest runs");
    window.retie(&stream.region, stream.next)?;
    stream.next += window.len();
    Ok(window.len() as u32)
}

fn words() -> impl Iterator<Item = u64> {
    (0..REGION as u64 / 8).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn callback_moves_the_window_under_a_running_guest() {
    let engine = Engine::default();
    let module = Module::new(&engine, SUM).expect("the module compiles");
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "next", next).expect("a new name");

    for how in [
        TieOptions::new(Access::ReadOnly),
        TieOptions::new(Access::ReadOnly).prefault(Prefault::Populate),
        TieOptions::new(Access::CopyOnWrite),
        TieOptions::new(Access::ReadWrite),
    ] {
        let region = Region::new(REGION).expect("a region");
        let bytes: Vec<u8> = words().flat_map(u64::to_le_bytes).collect();
        region.write_at(0, &bytes).expect("in bounds");

        let stream = Stream { region: region.clone(), window: None, next: 0 };
        let mut store = Store::new(&engine, stream);
        let instance = linker.instantiate(&mut store, &module).expect("instantiates");
        let memory = instance.get_memory(&mut store, "memory").expect("exported");
        // SAFETY: the memory lives as long as the store; the space ends before it, and only
        // calls that could have had `data_mut` change what it shows.
        let space = unsafe { Space::borrow(memory.data_ptr(&store), memory.data_size(&store)) }
            .expect("the memory can be borrowed");
        let window = space.tie(WINDOW_AT, &region, ..WINDOW, how).expect("a tie");
        let access = window.access();
        store.data_mut().window = Some(window);

        let run = instance.get_typed_func::<u32, u64>(&mut store, "run").expect("exported");
        let mark = u32::from(access != Access::ReadOnly);
        let sum = run.call(&mut store, mark).expect("the guest runs to the end");
        assert_eq!(sum, words().fold(0, u64::wrapping_add), "{how:?}");

        // Through a read-write window the guest has left the running sums in the region.
        let mut running = 0u64;
        let words: Vec<u64> = words().collect();
        for (i, chunk) in words.chunks(WINDOW / 8).enumerate() {
            running = chunk.iter().fold(running, |sum, &word| sum.wrapping_add(word));
            let first = if access == Access::ReadWrite { running } else { chunk[0] };
            let at = i * WINDOW;
            assert_eq!(read(&region, at..at + 8), first.to_le_bytes(), "{how:?}");
        }

        store.data_mut().window.take().expect("still there").untie().expect("unties");
        let shown = &memory.data(&store)[WINDOW_AT..WINDOW_AT + WINDOW];
        assert!(shown.iter().all(|&byte| byte == 0), "{how:?}: the guest's own zeros are back");
        drop(space);
    }
}
