//! Blocks of pages that one thread allocates and another one, on another CPU, frees. They pass in crates of 1 MiB, of
//! which a fixed number goes round, so that passing them neither allocates nor costs much beside the blocks.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use pcpmalloc::{Instance, Migratetype};

use super::cpus::Pinned;
use super::meter::Figures;

/// Pages in a crate.
const CRATE_PAGES: usize = 256;
/// Crates between two threads.
const CRATES: usize = 4;

/// Who does what.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// One thread only allocates, the other one only frees.
    OneWay,
    /// Both allocate a crate, and then free the other's.
    Exchange,
}

/// Passes so many crates on, rounded up to an even number, after an eighth as many that are not measured.
pub fn run(instance: &Instance, order: u32, pattern: Pattern, crates: usize) -> Figures {
    let depot = Depot { instance, order };
    let half = crates.div_ceil(2);
    let (crates, warm_up) = (2 * half, half / 4);
    let operations = (crates * depot.blocks()) as u64;
    thread::scope(|scope| match pattern {
        Pattern::OneWay => {
            let (full, arriving) = sync_channel(CRATES);
            let (back, empty) = sync_channel(CRATES);
            (0..CRATES).for_each(|_| back.send(depot.empty_crate()).expect("there is room"));
            scope.spawn(move || {
                let _pinned = Pinned::to(1);
                // In the end nobody waits for empty crates any more; all full ones are emptied still.
                arriving.into_iter().for_each(|full| drop(back.send(depot.emptied(full))));
            });
            let _pinned = Pinned::to(0);
            let produce = |crates| {
                (0..crates).for_each(|_| pass(depot.filled(empty.recv().expect("the other lives")), &full));
            };
            produce(warm_up);
            Figures::of(instance, operations, || produce(crates))
        }
        Pattern::Exchange => {
            let (there, arriving) = sync_channel(1);
            let (back, returning) = sync_channel(1);
            scope.spawn(move || {
                let _pinned = Pinned::to(1);
                depot.exchange(warm_up + half, &back, &arriving);
            });
            let _pinned = Pinned::to(0);
            depot.exchange(warm_up, &there, &returning);
            Figures::of(instance, operations, || depot.exchange(half, &there, &returning))
        }
    })
}

fn pass(filled: Crate, to: &SyncSender<Crate>) {
    to.send(filled).expect("the other thread lives");
}

/// Blocks on their way.
struct Crate(Vec<*mut u8>);

// SAFETY: the blocks are the crate's alone, and any thread may free them.
unsafe impl Send for Crate {}

/// Where crates are filled and emptied.
#[derive(Clone, Copy)]
struct Depot<'a> {
    instance: &'a Instance,
    order: u32,
}

impl Depot<'_> {
    /// Blocks in a crate.
    fn blocks(self) -> usize {
        CRATE_PAGES >> self.order
    }

    fn empty_crate(self) -> Crate {
        Crate(Vec::with_capacity(self.blocks()))
    }

    fn filled(self, mut empty: Crate) -> Crate {
        empty.0.extend((0..self.blocks()).map(|_| {
            let block = self.instance.alloc_pages(self.order, Migratetype::Movable);
            assert!(!block.is_null(), "out of memory");
            block
        }));
        empty
    }

    fn emptied(self, mut full: Crate) -> Crate {
        for block in full.0.drain(..) {
            // SAFETY: allocated by `filled` with this instance and order; the crate just lost it.
            unsafe { self.instance.free_pages(block, self.order) };
        }
        full
    }

    /// Sends crates and empties as many of the other thread's.
    fn exchange(self, crates: usize, to: &SyncSender<Crate>, from: &Receiver<Crate>) {
        let mut empty = self.empty_crate();
        for _ in 0..crates {
            pass(self.filled(empty), to);
            empty = self.emptied(from.recv().expect("the other thread lives"));
        }
    }
}
