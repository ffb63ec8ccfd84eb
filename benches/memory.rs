//! How much memory do 1 to 64 guests take that all see one region of 64 MiB: tied, and copied?
//!
//! Prints Markdown: Pss of the process, the region included, after each guest has read every byte, and the
//! page tables, which are in no Pss. Copies are made of no more than half of the memory that is to be had.

mod bare;
mod contest;

use contest::{machine, memory, memory::Guests, only_once};

fn main() {
    let counts = if only_once() { &memory::COUNTS[..3] } else { &memory::COUNTS };
    let guests = memory::guests(counts, machine::available() / 2 / memory::LEN);
    println!("{}", machine::lines());
    println!("{}", memory::table(&guests));
    check(&guests);
}

/// A tied guest takes no pages of its own, a copied one takes all of them.
fn check(guests: &[Guests]) {
    // KiB; code is read in meanwhile, and shared with programs that come and go.
    const SLACK: usize = 2 << 10;
    const ONE: usize = memory::LEN >> 10;
    for Guests { count, tied, copied } in guests {
        let about = |pss: usize, expected: usize, what: &str| {
            assert!(pss.abs_diff(expected) <= SLACK, "{count} guests, {what}: {pss} KiB");
        };
        about(tied.pss, ONE, "tied");
        if let Some(copied) = copied {
            about(copied.pss, (1 + count) * ONE, "copied");
        }
    }
}
