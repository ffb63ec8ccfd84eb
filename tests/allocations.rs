//! A tie of one page takes one allocation, and its end none.

#![allow(unsafe_code, reason = "counts what the allocator is asked for")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Memory, page, region};
use pagetie::{Access, Covered, TieOptions};

/// The system's allocator, counting this thread's allocations.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all of it is the system's allocator's work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count<T>(body: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.get();
    let result = body();
    (COUNT.get() - before, result)
}

#[test]
fn a_tie_of_a_page_allocates_once() {
    let (memory, region) = (Memory::private(64), region(1, 8));
    let space = memory.borrow();
    for covered in [Covered::Keep, Covered::Discard] {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            let how = TieOptions::new(access).covered(covered);
            let tie =
                |at: usize| space.tie(at * page(), &region, page()..2 * page(), how).expect("tie");
            // The list of ties and the first look at the process are there from now on.
            tie(4).untie().expect("untie");
            let (allocated, mut tied) = count(|| tie(7));
            assert!(allocated <= 1, "{covered:?}, {access:?}: {allocated} allocations");
            let (allocated, ()) = count(|| tied.retie(&region, 3 * page()).expect("retie"));
            assert_eq!(allocated, 0, "retie: {covered:?}, {access:?}");
            let (allocated, ()) = count(|| tied.untie().expect("untie"));
            assert_eq!(allocated, 0, "untie: {covered:?}, {access:?}");
        }
    }
}
