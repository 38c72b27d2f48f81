//! One allocation and its free, again and again: what the shortest path costs.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

use super::Named;
use super::meter::{Figures, measure};
use super::random::Sizes;

pub const ALL: Named = &[
    ("pair-const-64", const_64),
    ("pair-box", boxes),
    ("pair-64", || run_time(64)),
    ("pair-1k", || run_time(1024)),
    ("pair-mixed", mixed),
];

const PAIRS: u64 = 6_000_000;

fn const_64() -> Figures {
    const LAYOUT: Layout = Layout::new::<[u64; 8]>();
    measure(PAIRS, || {
        for _ in 0..PAIRS {
            // SAFETY: the layout is not empty.
            let block = black_box(unsafe { alloc(LAYOUT) });
            // SAFETY: allocated just now with this layout.
            unsafe { dealloc(block, LAYOUT) };
        }
    })
}

/// Values of four types, as most Rust programs box them.
fn boxes() -> Figures {
    measure(PAIRS, || {
        for number in 0..PAIRS / 4 {
            drop(black_box(Box::new(number)));
            drop(black_box(Box::new([number; 3])));
            drop(black_box(Box::new([number; 6])));
            drop(black_box(Box::new([number; 12])));
        }
    })
}

/// Size and alignment known at run time only.
fn run_time(size: usize) -> Figures {
    let layout = Layout::from_size_align(size, align_of::<u64>()).expect("a layout");
    measure(PAIRS, || {
        for _ in 0..PAIRS {
            pair(black_box(layout));
        }
    })
}

fn mixed() -> Figures {
    let mut sizes = Sizes::between(8, 1024);
    let align = black_box(align_of::<u64>());
    measure(PAIRS, || {
        for _ in 0..PAIRS {
            pair(Layout::from_size_align(sizes.next(), align).expect("a layout"));
        }
    })
}

fn pair(layout: Layout) {
    // SAFETY: no caller asks for an empty layout.
    let block = black_box(unsafe { alloc(layout) });
    // SAFETY: allocated just now with this layout.
    unsafe { dealloc(block, layout) };
}
