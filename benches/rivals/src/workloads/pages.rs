//! Whole pages, with one byte of each written: what page-sized buffers and large tables cost, page faults included.

use super::Named;
use super::block::Block;
use super::crew::{Member, measure_crew};
use super::meter::{Figures, measure};
use super::random::{Random, Sizes};

pub const ALL: Named = &[
    ("pages-4k", || one_thread(4 << 10, 2_000_000)),
    ("pages-32k", || one_thread(32 << 10, 2_000_000)),
    ("pages-256k", || one_thread(256 << 10, 200_000)),
    ("pages-2m", || one_thread(2 << 20, 8000)),
    ("pages-2t", || threads(2, 600_000)),
    ("pages-8t", || threads(8, 100_000)),
];

/// How many blocks a thread holds.
const HELD: usize = 16;

/// A ring of blocks, of which the oldest goes when a new one comes.
struct Ring {
    blocks: [Option<Block>; HELD],
    next: usize,
}

impl Ring {
    fn new() -> Self {
        Self { blocks: [const { None }; HELD], next: 0 }
    }

    fn replace(&mut self, size: usize) {
        let place = &mut self.blocks[self.next % HELD];
        *place = None;
        *place = Some(Block::touched(size));
        self.next += 1;
    }
}

fn one_thread(size: usize, work: u64) -> Figures {
    let mut ring = Ring::new();
    measure(work, || {
        for _ in 0..work {
            ring.replace(size);
        }
    })
}

/// Blocks of 4 to 32 KiB on each thread, and one of 2 MiB among 256.
fn threads(count: u64, work_each: u64) -> Figures {
    let member = |seed| -> Member {
        let (mut ring, mut sizes) = (Ring::new(), page_sizes(seed));
        Box::new(move || (0..work_each).for_each(|_| ring.replace(sizes.next())))
    };
    measure_crew(count * work_each, (0..count).map(member).collect())
}

fn page_sizes(seed: u64) -> Sizes {
    let mut random = Random::new(seed);
    Sizes::new(|| if random.below(256) == 0 { 2 << 20 } else { 4096 << random.below(4) })
}
