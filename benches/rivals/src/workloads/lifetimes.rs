//! Blocks that live at random: one of many live ones is freed, and another size allocated in its place.

use super::Named;
use super::block::Block;
use super::meter::{Figures, measure};
use super::random::{Random, Sizes};

pub const ALL: Named = &[
    ("random-1k", || replace(1000, Sizes::between(16, 512), 8_000_000)),
    ("random-100k", || replace(100_000, Sizes::between(16, 1024), 1_000_000)),
    ("random-large", || replace(5000, Sizes::log_uniform(16, 64 << 10), 1_500_000)),
];

/// Fills `live` places before the measured part, and replaces `work` blocks in it.
fn replace(live: usize, mut sizes: Sizes, work: u64) -> Figures {
    let mut random = Random::new(live as u64);
    let mut blocks: Vec<Option<Block>> = (0..live).map(|_| Some(Block::written(sizes.next()))).collect();
    measure(work, || {
        for _ in 0..work {
            let place = &mut blocks[random.below(live)];
            // Freed before the next is allocated, so that the one may take the other's place.
            *place = None;
            *place = Some(Block::written(sizes.next()));
        }
    })
}
