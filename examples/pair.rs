//! One allocation and one free, again and again, on pcpmalloc. `.ci/floor` and `benches/icount.sh` count its instructions,
//! as the difference of two loop lengths.

#[path = "pair/loops.rs"]
mod loops;

use pcpmalloc::PcpMalloc;

#[global_allocator]
static GLOBAL: PcpMalloc = PcpMalloc::new();

fn main() {
    loops::run();
}
