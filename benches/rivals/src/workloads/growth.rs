//! Memory that grows: vectors and strings as programs fill them, and blocks that change their size at random.

use std::hint::black_box;

use super::Named;
use super::block::Block;
use super::meter::{Figures, measure};
use super::random::{Random, Sizes};

pub const ALL: Named = &[
    ("vec-growth", one_vector),
    ("many-vecs", many_vectors),
    ("string-growth", strings),
    ("realloc", reallocations),
];

/// One vector of a million numbers after another.
fn one_vector() -> Figures {
    const VECTORS: u64 = 30;
    const LENGTH: u64 = 1_000_000;
    measure(VECTORS * LENGTH, || {
        for _ in 0..VECTORS {
            let mut numbers = Vec::new();
            (0..LENGTH).for_each(|number| numbers.push(number));
            black_box(&mut numbers);
        }
    })
}

/// Many vectors that grow in turn, so that no one has room behind it.
fn many_vectors() -> Figures {
    const ROUNDS: u64 = 60;
    const VECTORS: usize = 1000;
    const LENGTH: u64 = 150;
    let mut vectors: Vec<Vec<u64>> = (0..VECTORS).map(|_| Vec::new()).collect();
    measure(ROUNDS * VECTORS as u64 * LENGTH, || {
        for _ in 0..ROUNDS {
            for number in 0..LENGTH {
                vectors.iter_mut().for_each(|vector| vector.push(number));
            }
            vectors.iter_mut().for_each(|vector| *black_box(vector) = Vec::new());
        }
    })
}

/// Texts put together line by line, from 16 bytes to 16 KiB long.
fn strings() -> Figures {
    const TEXTS: u64 = 300_000;
    let mut lengths = Sizes::log_uniform(16, 16 << 10);
    let line = "a line as they stand in logs and in answers to requests, of a good hundred letters on the whole or so\n";
    measure(TEXTS, || {
        for _ in 0..TEXTS {
            let (mut text, length) = (String::new(), lengths.next());
            while text.len() < length {
                // Short texts grow too: by parts of a line.
                let room = length - text.len();
                text.push_str(&line[..line.len().min(room.div_ceil(2))]);
            }
            black_box(&mut text);
        }
    })
}

/// A hundred blocks, of which one at random gets another size.
fn reallocations() -> Figures {
    const LIVE: usize = 100;
    const WORK: u64 = 150_000;
    let mut random = Random::new(3);
    let mut sizes = Sizes::log_uniform(16, 256 << 10);
    let mut blocks: Vec<_> = (0..LIVE).map(|_| Block::written(sizes.next())).collect();
    measure(WORK, || {
        for _ in 0..WORK {
            let block = &mut blocks[random.below(LIVE)];
            block.resize(sizes.next());
            block.write();
        }
    })
}
