//! What happens at the allocator's locks: how often each kind is taken for a thousand operations, how often somebody
//! waited, and for how long it is held. docs/SCALING.md is made of this.
//!
//! `cargo run --release --features lock-stat --example locks [THREADS]`; without the feature hold times read 0.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use pcpmalloc::{LockStat, PcpMalloc, lock_stat};

/// The heap that is looked at. The example's own memory comes from the system's allocator.
static HEAP: PcpMalloc = PcpMalloc::new();

/// Operations of each thread: an allocation and a free.
const WORK: usize = 400_000;
/// Objects that one thread hands to another at once.
const BATCH: usize = 100;

/// A block and its layout; whoever has it frees it.
struct Block(*mut u8, Layout);

// SAFETY: the block is the value's alone, and may be freed by any thread.
unsafe impl Send for Block {}

impl Block {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: no caller asks for 0 bytes.
        let block = unsafe { HEAP.alloc(layout) };
        assert!(!block.is_null(), "out of memory");
        // SAFETY: the first byte of the block.
        unsafe { block.write(1) };
        Self(block, layout)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed once.
        unsafe { HEAP.dealloc(self.0, self.1) };
    }
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn between(&mut self, low: usize, high: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) as usize % (high - low)
    }
}

/// Each thread replaces blocks of its own at random.
fn private(threads: usize, sizes: (usize, usize), live: usize) {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for seed in 0..threads {
            let start = &start;
            scope.spawn(move || {
                let mut random = Random(seed as u64);
                let mut blocks: Vec<_> =
                    (0..live).map(|_| Block::new(random.between(sizes.0, sizes.1))).collect();
                start.wait();
                for _ in 0..WORK {
                    let place = random.between(0, live);
                    blocks[place] = Block::new(random.between(sizes.0, sizes.1));
                }
            });
        }
    });
}

/// Half of the threads allocate and hand over, the other half frees.
fn passed_on(threads: usize, sizes: (usize, usize)) {
    thread::scope(|scope| {
        for seed in 0..threads.div_ceil(2) {
            let (sender, receiver): (SyncSender<Vec<Block>>, Receiver<_>) = sync_channel(16);
            scope.spawn(move || {
                let mut random = Random(seed as u64);
                for _ in 0..2 * WORK / BATCH {
                    let batch = (0..BATCH).map(|_| Block::new(random.between(sizes.0, sizes.1))).collect();
                    sender.send(batch).expect("the other thread takes all");
                }
            });
            scope.spawn(move || receiver.iter().for_each(drop));
        }
    });
}

/// Runs some work and prints what it did to the locks.
fn report(what: &str, threads: usize, work: impl FnOnce()) {
    let (before, start) = (lock_stat(), Instant::now());
    work();
    let operations = (threads.div_ceil(2) * 2 * WORK) as f64;
    let each = start.elapsed().as_nanos() as f64 * threads as f64 / operations;
    println!("\n{what}: {threads} threads, {each:.0} ns an operation of each\n");
    println!("| lock | taken per 1,000 operations | waited for, % | held, ns | longest, us |");
    println!("|---|---|---|---|---|");
    for (after, before) in lock_stat().iter().zip(before) {
        let taken = after.acquisitions - before.acquisitions;
        if taken > 0 {
            row(after, taken, after.contentions - before.contentions, operations, before.hold_ns_total);
        }
    }
}

fn row(lock: &LockStat, taken: u64, waited: u64, operations: f64, held_before: u64) {
    let held = (lock.hold_ns_total - held_before) as f64 / taken as f64;
    println!(
        "| {} | {:.3} | {:.2} | {held:.0} | {:.1} |",
        lock.name,
        taken as f64 * 1000.0 / operations,
        waited as f64 * 100.0 / taken as f64,
        lock.hold_ns_max as f64 / 1000.0
    );
}

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |count| count.parse().expect("a number of threads"));
    report("16 to 512 bytes, 1,000 blocks of each thread's own", threads, || {
        private(threads, (16, 512), 1000)
    });
    report("16 to 512 bytes, 100,000 blocks of each thread's own", threads, || {
        private(threads, (16, 512), 100_000);
    });
    report("16 to 512 bytes, allocated by one and freed by another", threads, || {
        passed_on(threads, (16, 512))
    });
    report("64 bytes, allocated by one and freed by another", threads, || passed_on(threads, (64, 65)));
    report("4 to 32 KiB, 200 blocks of each thread's own", threads, || private(threads, (4096, 32_768), 200));
    report("300 to 600 KiB, 20 blocks of each thread's own", threads, || {
        private(threads, (300 << 10, 600 << 10), 20);
    });
}
