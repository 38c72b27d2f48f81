//! Threads that get in each other's way: blocks that one allocates and another frees, threads that come and go, and
//! cache lines with objects of two of them.

#[path = "common/mod.rs"]
mod common;

use std::sync::{Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use common::{Block, Random, race};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];

/// Measures `work` with each number of threads; it is told how many iterations to do, of which each allocates so many
/// blocks a thread.
fn by_threads(criterion: &mut Criterion, name: &str, blocks: usize, work: impl Fn(usize, u64) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    for threads in THREADS {
        group.throughput(Throughput::Elements((threads * blocks) as u64));
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter_custom(|count| work(threads, count));
        });
    }
    group.finish();
}

/// Live blocks of a thread of the server, and how many of them it replaces before it hands them on.
const LIVE: usize = 2000;
const ROUND: usize = 5000;

/// As in Larson and Krishnan's benchmark: each thread replaces blocks of a table at random, and after each round hands
/// the table on, so that others free what it has allocated.
fn server(criterion: &mut Criterion) {
    by_threads(criterion, "server", ROUND, |threads, rounds| {
        let size = |random: &mut Random| random.between(16, 1024);
        let mut random = Random::new(0);
        let mut table = || Mutex::new((0..LIVE).map(|_| Block::new(size(&mut random))).collect());
        let tables: Vec<Mutex<Vec<Block>>> = (0..threads).map(|_| table()).collect();
        let meet = Barrier::new(threads);
        race(
            threads,
            |thread| (thread, Random::new(thread)),
            |(thread, random)| {
                for round in 0..rounds as usize {
                    let mut table = tables[(*thread + round) % threads].lock().expect("no panic");
                    for _ in 0..ROUND {
                        table[random.below(LIVE)] = Block::new(size(random));
                    }
                    drop(table);
                    meet.wait();
                }
            },
        )
    });
}

/// Blocks that pass at a time, and how many such crates there are for each producer.
const CRATE: usize = 1000;
const CRATES: usize = 4;

/// A stack of crates that threads wait at.
struct Store {
    crates: Mutex<Vec<Vec<Block>>>,
    arrived: Condvar,
}

impl Store {
    fn new(crates: Vec<Vec<Block>>) -> Self {
        Self { crates: Mutex::new(crates), arrived: Condvar::new() }
    }

    fn put(&self, full: Vec<Block>) {
        self.crates.lock().expect("no panic").push(full);
        self.arrived.notify_one();
    }

    fn take(&self) -> Vec<Block> {
        let crates = self.crates.lock().expect("no panic");
        let mut crates = self.arrived.wait_while(crates, |crates| crates.is_empty()).expect("no panic");
        crates.pop().expect("waited for one")
    }
}

/// Half of the threads allocate, half free. The crates that pass between them come back empty.
fn producer_consumer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("producer and consumer");
    for pairs in [1, 4] {
        group.throughput(Throughput::Elements((pairs * CRATE) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{pairs}+{pairs}")), |bencher| {
            bencher.iter_custom(|count| pass_on(pairs, count));
        });
    }
    group.finish();
}

/// Passes so many crates from each producer on.
fn pass_on(pairs: usize, count: u64) -> Duration {
    let empty = Store::new((0..pairs * CRATES).map(|_| Vec::with_capacity(CRATE)).collect());
    let full = Store::new(Vec::with_capacity(pairs * CRATES));
    race(
        2 * pairs,
        |thread| (thread < pairs, Random::new(thread)),
        |(produces, random)| {
            for _ in 0..count {
                if *produces {
                    let mut blocks = empty.take();
                    blocks.extend((0..CRATE).map(|_| Block::new(random.between(64, 512))));
                    full.put(blocks);
                } else {
                    let mut blocks = full.take();
                    blocks.clear();
                    empty.put(blocks);
                }
            }
        },
    )
}

/// Blocks of a thread that lives for them only.
const SHORT_LIFE: usize = 200;

/// Threads that start, allocate a little, and end. Starting them is part of it.
fn churn(criterion: &mut Criterion) {
    let live = || {
        // On the stack: a thread that lives as short as this one has no time for more.
        let mut blocks = [const { None }; SHORT_LIFE];
        for (number, place) in blocks.iter_mut().enumerate() {
            *place = Some(Block::new(16 + number * 37 % 1000));
        }
    };
    by_threads(criterion, "thread churn", SHORT_LIFE, |threads, count| {
        race(
            1,
            |_| (),
            |()| {
                for _ in 0..count {
                    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(live))));
                }
            },
        )
    });
}

/// Objects of an iteration, and how often each is written: enough that sharing a line shows, and allocation does.
const OBJECTS: usize = 1000;
const WRITES: u64 = 8;

fn write(object: Block) {
    (0..WRITES).for_each(|value| object.write(value));
}

/// Small objects that each thread allocates, writes and frees, as in the programs cache-thrash (active) and
/// cache-scratch (passive) of the Hoard paper. In the latter, each starts with one that lay beside the others'.
fn false_sharing(criterion: &mut Criterion) {
    for (name, passive) in [("false sharing, active", false), ("false sharing, passive", true)] {
        by_threads(criterion, name, OBJECTS, |threads, count| {
            let given = |_| Mutex::new(passive.then(|| Block::new(8)));
            let given: Vec<_> = (0..threads).map(given).collect();
            race(
                threads,
                |thread| given[thread].lock().expect("no panic").take(),
                |given| {
                    given.take().into_iter().for_each(write);
                    for _ in 0..count * OBJECTS as u64 {
                        write(Block::new(8));
                    }
                },
            )
        });
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = server, producer_consumer, churn, false_sharing
}
criterion_main!(benches);
