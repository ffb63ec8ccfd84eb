//! The pooling allocator: one slot of memory, many tenants one after the other.
//!
//! A slot is recycled in place when its store is dropped, so the kernel cannot tell one tenant
//! from the next. Promise 2 puts the order on the borrower: `untie_all` (or the space's end)
//! first, the store after it.

use std::{
    fs,
    io::{self, Write},
};

use pagetie::{Access, Covered, TieOptions, page};
use wasmtime::{Config, Enabled, Module, PoolingAllocationConfig};

use crate::guest::{DATA, Guest, LEN, WASM_PAGE, assert_faults, compile, data_pages, pristine};
use crate::host::{alone, mappings, pattern, read, region};

/// A pool with a single slot: the next instance gets the memory of the last one.
fn pool(keep_resident: usize, pagemap_scan: Enabled) -> Module {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(1)
        .total_core_instances(1)
        .max_memory_size(4 * LEN)
        .linear_memory_keep_resident(keep_resident)
        .pagemap_scan(pagemap_scan);
    compile(Config::new().allocation_strategy(pool))
}

/// Every way in which Wasmtime resets a slot, by name.
fn pools() -> Vec<(&'static str, Module)> {
    let mut pools = vec![
        ("plain", pool(0, Enabled::No)),
        ("keeps the first pages", pool(2 * WASM_PAGE, Enabled::No)),
        ("keeps all pages", pool(LEN, Enabled::No)),
    ];
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pools.push(("pagemap scan", pool(LEN, Enabled::Yes)));
        pools.push(("pagemap scan, then decommit", pool(4 * page::size(), Enabled::Yes)));
    } else {
        // Past the test harness, which hides what a passing test prints.
        let _ = writeln!(io::stderr(), "skipped: pool with PAGEMAP_SCAN (needs Linux 6.7)");
    }
    pools
}

/// Leaves something in every kind of page: image, zeros, tied or not.
fn dirty(guest: &mut Guest) {
    for at in [0, DATA.start, DATA.end, 8 * WASM_PAGE, 12 * WASM_PAGE, LEN - 1] {
        guest.store(at, 0x99).expect("writable");
    }
}

/// The next tenant of the slot at `addr` starts as the module says.
#[track_caller]
fn assert_next_is_pristine(module: &Module, addr: *mut u8, case: &str) {
    let mut next = Guest::new(module);
    assert_eq!(next.addr(), addr, "{case}: the same slot");
    assert!(next.bytes(0..LEN) == pristine(), "{case}: the next tenant sees other bytes");
    next.fill(0..LEN, 0x55).expect("all of it is writable");
}

#[test]
fn untie_all_then_recycle() {
    let page = page::size();
    for (pool, module) in pools() {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            let case = format!("{pool}, {access:?}");
            let len = data_pages().len();
            let region = region(len, 1);
            let mut guest = Guest::new(&module);
            let addr = guest.addr();
            dirty(&mut guest);

            let space = guest.space();
            let over_data = space.tie(data_pages().start, &region, .., access).expect("a tie");
            let over_zeros = space.tie(8 * WASM_PAGE, &region, ..page, access).expect("a tie");
            for at in [data_pages().start, DATA.start, DATA.end] {
                match access {
                    Access::ReadOnly => assert_faults(guest.store(at, 0x88)),
                    _ => guest.store(at, 0x88).expect("writable"),
                }
            }
            guest.store(12 * WASM_PAGE + 1, 0x99).expect("untied");

            space.untie_all().expect("no alias of ours is left");
            assert!(!over_data.is_live() && !over_zeros.is_live());
            drop(guest);
            assert_next_is_pristine(&module, addr, &case);

            let mut expected = pattern(len, 1);
            if access == Access::ReadWrite {
                for at in [data_pages().start, DATA.start, DATA.end] {
                    expected[at - data_pages().start] = 0x88;
                }
            }
            assert!(read(&region, 0..len) == expected, "{case}: the region changed");
        }
    }
}

#[test]
fn space_ends_then_recycle() {
    // The end of the space does what `untie_all` does; a handle may outlive both and the tenant.
    for (pool, module) in pools() {
        let region = region(data_pages().len(), 2);
        let mut guest = Guest::new(&module);
        let addr = guest.addr();
        dirty(&mut guest);
        let space = guest.space();
        let tie = space.tie(data_pages().start, &region, .., Access::ReadWrite).expect("a tie");
        guest.fill(data_pages(), 0xbb).expect("writable");
        drop(space);
        drop(guest);
        assert_next_is_pristine(&module, addr, pool);

        let next = Guest::new(&module);
        assert!(!tie.is_live());
        tie.untie().expect("it has ended");
        assert!(next.bytes(0..LEN) == pristine(), "{pool}: a dead handle did something");
        assert_eq!(read(&region, 0..region.len()), vec![0xbb; region.len()]);
    }
}

#[test]
fn grown_slot_then_recycle() {
    let page = page::size();
    for (pool, module) in pools() {
        let region = region(2 * page, 3);
        let mut guest = Guest::new(&module);
        let addr = guest.addr();
        let space = guest.space();
        let _low = space.tie(LEN - 2 * page, &region, .., Access::ReadOnly).expect("a tie");
        guest.grow(LEN);
        assert_eq!(guest.addr(), addr, "{pool}: a slot never moves");
        // SAFETY: the same memory at its new length, promised as before.
        unsafe { space.grown_to(addr, guest.len()) }.expect("same start, longer");
        let _high = space.tie(LEN, &region, .., Access::ReadWrite).expect("a tie");
        guest.fill(LEN..2 * LEN, 0xcc).expect("writable");
        space.untie_all().expect("no alias of ours is left");
        drop(guest);
        assert_next_is_pristine(&module, addr, pool);

        let mut next = Guest::new(&module);
        next.grow(LEN);
        assert!(next.bytes(LEN..2 * LEN) == vec![0; LEN], "{pool}: the grown part is not zero");
        assert_eq!(read(&region, 0..2 * page), vec![0xcc; 2 * page]);
    }
}

#[test]
fn discarded_data_segment_is_gone_for_the_next_tenant() {
    // Why `Covered::Keep` is the default: the slot's image map is what a plain pool resets to.
    let module = pool(0, Enabled::No);
    let region = region(data_pages().len(), 4);
    let guest = Guest::new(&module);
    let space = guest.space();
    let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);
    space.tie(data_pages().start, &region, .., how).expect("a tie").untie().expect("unties");
    assert_eq!(guest.bytes(data_pages()), vec![0; data_pages().len()]);
    drop(space);
    drop(guest);
    assert_eq!(Guest::new(&module).bytes(0..LEN), vec![0; LEN]);
}

#[test]
fn two_hundred_tenants_leave_nothing_behind() {
    alone("pool::two_hundred_tenants_leave_nothing_behind", || {
        const TENANTS: usize = 200;
        for (pool, module) in pools() {
            let region = region(LEN / 4, 5);
            let tenant = |access| {
                let mut guest = Guest::new(&module);
                assert!(guest.bytes(data_pages()) == pristine()[data_pages()], "{pool}");
                guest.fill(0..LEN / 2, 0x66).expect("writable");
                let space = guest.space();
                let _tie = space.tie(WASM_PAGE, &region, .., access).expect("a tie");
                guest.sum(WASM_PAGE..2 * WASM_PAGE).expect("readable");
                space.untie_all().expect("no alias of ours is left");
            };
            let many = |count: usize| {
                for i in 0..count {
                    tenant([Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite][i % 3]);
                }
                (mappings(), resident(), open_files())
            };
            let before = many(30);
            let after = many(TENANTS);
            assert!(
                // Far less than a mapping, a file or a sixteenth of a tie for each tenant.
                after.0 <= before.0 + 8
                    && after.1 <= before.1 + TENANTS * region.len() / 16
                    && after.2 <= before.2 + 8,
                "{pool}: mappings, bytes, files were {before:?} and are {after:?}"
            );
        }
    });
}

/// Bytes in memory that only this process uses: not its program file, which other tests run, too.
fn resident() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("/proc is mounted");
    let bytes = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).expect("the kernel counts");
        let kib = line.split_whitespace().nth(1).expect("a number");
        kib.parse::<usize>().expect("a number") * 1024
    };
    bytes("Pss_Anon:") + bytes("Pss_Shmem:")
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}
