//! The smallest loop there is: one allocation and one free of a constant 64 bytes, as often as the program's first
//! argument says; or of the size and the alignment that follow, known at run time only.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

/// Runs the loop that the program's arguments ask for.
pub fn run() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>().expect("a number"));
    let rounds = numbers.next().unwrap_or(1_000);
    match (numbers.next(), numbers.next()) {
        (Some(size), Some(align)) => run_time(rounds, size, align),
        _ => constant(rounds),
    }
}

fn constant(rounds: usize) {
    let layout = Layout::new::<[u64; 8]>();
    for _ in 0..rounds {
        // SAFETY: the layout is not empty.
        let block = black_box(unsafe { alloc(layout) });
        // SAFETY: allocated just now with this layout.
        unsafe { dealloc(block, layout) };
    }
}

fn run_time(rounds: usize, size: usize, align: usize) {
    assert_ne!(size, 0);
    let layout = Layout::from_size_align(size, align).expect("a layout");
    for _ in 0..rounds {
        let layout = black_box(layout);
        // SAFETY: the layout is not empty.
        let block = black_box(unsafe { alloc(layout) });
        // SAFETY: allocated just now with this layout.
        unsafe { dealloc(block, layout) };
    }
}
