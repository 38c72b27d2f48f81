//! Producers allocate blocks, consumers free them. What passes between them is a crate of blocks at a time; there is a
//! fixed number of crates, which come back empty, and a thread without one sleeps. So the hand-over neither allocates
//! nor spins, and costs little beside the blocks.

use std::sync::{Condvar, Mutex};

use super::Named;
use super::block::Block;
use super::crew::{Member, measure_crew};
use super::meter::Figures;
use super::random::Sizes;

pub const ALL: Named =
    &[("prodcons-1-1", || produce_and_consume(1)), ("prodcons-4-4", || produce_and_consume(4))];

/// Blocks in a crate.
const BLOCKS: usize = 2000;
/// Crates to each pair of threads.
const CRATES: usize = 4;
/// Crates that all producers together fill.
const FILLED: usize = 800;

type Crate = Vec<Block>;

/// A stack of crates that threads wait at.
struct Store {
    crates: Mutex<Vec<Crate>>,
    arrived: Condvar,
}

impl Store {
    fn new(capacity: usize) -> Self {
        Self { crates: Mutex::new(Vec::with_capacity(capacity)), arrived: Condvar::new() }
    }

    fn put(&self, full: Crate) {
        self.crates.lock().expect("no thread panics").push(full);
        self.arrived.notify_one();
    }

    fn take(&self) -> Crate {
        let crates = self.crates.lock().expect("no thread panics");
        let mut crates =
            self.arrived.wait_while(crates, |crates| crates.is_empty()).expect("no thread panics");
        crates.pop().expect("waited for one")
    }
}

fn produce_and_consume(pairs: usize) -> Figures {
    let (empty, full) = (Store::new(pairs * CRATES), Store::new(pairs * CRATES));
    (0..pairs * CRATES).for_each(|_| empty.put(Vec::with_capacity(BLOCKS)));
    let (empty, full) = (&empty, &full);
    let crates = FILLED / pairs;
    let producer = || -> Member {
        let mut sizes = Sizes::between(64, 512);
        Box::new(move || {
            for _ in 0..crates {
                let mut taken = empty.take();
                taken.extend((0..BLOCKS).map(|_| Block::written(sizes.next())));
                full.put(taken);
            }
        })
    };
    let consumer = || -> Member {
        Box::new(move || {
            for _ in 0..crates {
                let mut taken = full.take();
                taken.clear();
                empty.put(taken);
            }
        })
    };
    // In turn, so that a block is freed on another CPU than it was allocated on.
    let members = (0..pairs).flat_map(|_| [producer(), consumer()]).collect();
    measure_crew((FILLED * BLOCKS) as u64, members)
}
