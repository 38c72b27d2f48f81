//! One allocation and one free, again and again, on the allocator of the build: `examples/pair.rs` for the rivals.
//! `benches/icount.sh` counts its instructions.

#[path = "../allocator.rs"]
mod allocator;
#[path = "../../../../examples/pair/loops.rs"]
mod loops;

fn main() {
    allocator::start();
    loops::run();
}
