//! Threads that come, allocate a little, and go. Starting the thread is part of the work, and most of it.

use std::thread;

use super::Named;
use super::block::Block;
use super::meter::{Figures, measure};

pub const ALL: Named = &[("churn-1", || churn(1)), ("churn-4", || churn(4))];

const THREADS: usize = 1600;
/// Blocks that a thread allocates and frees.
const BLOCKS: usize = 200;

/// Starts threads, `at_once` of them at a time.
fn churn(at_once: usize) -> Figures {
    measure(THREADS as u64, || {
        for _ in 0..THREADS / at_once {
            thread::scope(|scope| {
                for _ in 0..at_once {
                    scope.spawn(work);
                }
            });
        }
    })
}

fn work() {
    // From the stack, and cheap: a thread that lives as short as this one has no time to draw sizes.
    let mut blocks = [const { None }; BLOCKS];
    for (number, place) in blocks.iter_mut().enumerate() {
        *place = Some(Block::written(16 + number * 37 % 1000));
    }
}
