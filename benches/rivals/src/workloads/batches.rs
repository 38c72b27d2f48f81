//! A thousand objects allocated, then all of them freed: in the same order, in the reverse one, at random.

use std::hint::black_box;
use std::mem::MaybeUninit;

use super::Named;
use super::block::Block;
use super::meter::{Figures, measure};
use super::random::{Random, Sizes};

pub const ALL: Named = &[
    ("batch-fifo-64", || objects((0..LENGTH).collect())),
    ("batch-lifo-64", || objects((0..LENGTH).rev().collect())),
    ("batch-random-64", || objects(Random::new(1).permutation(LENGTH))),
    ("batch-random-mixed", mixed),
];

const LENGTH: usize = 1000;

/// An object of 64 bytes with one word written, so that the allocator and not its initialisation is measured.
type Object = Box<MaybeUninit<[u64; 8]>>;

fn object(value: u64) -> Object {
    let mut object: Object = Box::new(MaybeUninit::uninit());
    // SAFETY: the first word of the object, which is aligned as its type says.
    unsafe { object.as_mut_ptr().cast::<u64>().write_volatile(value) };
    black_box(object)
}

fn objects(order: Vec<usize>) -> Figures {
    rounds(order, 8000, object)
}

fn mixed() -> Figures {
    let mut sizes = Sizes::between(16, 2048);
    rounds(Random::new(2).permutation(LENGTH), 2500, move |_| Block::written(sizes.next()))
}

/// Allocates a batch and frees it in `order`, `batches` times.
fn rounds<T>(order: Vec<usize>, batches: u64, mut allocate: impl FnMut(u64) -> T) -> Figures {
    let mut batch: Vec<Option<T>> = (0..LENGTH).map(|_| None).collect();
    measure(batches * LENGTH as u64, || {
        for round in 0..batches {
            for place in &mut batch {
                *place = Some(allocate(round));
            }
            for &place in &order {
                batch[place] = None;
            }
        }
    })
}
