//! The smallest loop there is: one allocation and one free of a constant 64 bytes, as often as the first
//! argument says. `.ci/floor` counts its instructions, as the difference of two loop lengths.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

use pcpmalloc::PcpMalloc;

#[global_allocator]
static GLOBAL: PcpMalloc = PcpMalloc::new();

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1_000);
    let layout = Layout::new::<[u64; 8]>();
    for _ in 0..rounds {
        // SAFETY: the layout is not empty.
        let block = black_box(unsafe { alloc(layout) });
        // SAFETY: allocated just now with this layout.
        unsafe { dealloc(block, layout) };
    }
}
