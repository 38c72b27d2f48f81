//! Pages: blocks of orders 0 to 10 from a private instance, on one thread and on several, with high orders on the
//! threads' page lists and without; and beside them the same from the system, one mapping each.

#[path = "common/mod.rs"]
mod common;

use std::hint::black_box;

use common::race;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memmap2::MmapMut;
use pcpmalloc::{Config, Instance, Migratetype};

/// Blocks held at once, so that lists are really drawn on.
const HELD: usize = 16;
const MAX_ORDER: u32 = 10;
/// Threads that want pages of one zone at once.
const THREADS: usize = 4;

/// Blocks of one thread; the oldest goes when a new one comes.
struct Ring<'a> {
    instance: &'a Instance,
    order: u32,
    blocks: [*mut u8; HELD],
    next: usize,
}

impl<'a> Ring<'a> {
    /// Full.
    fn new(instance: &'a Instance, order: u32) -> Self {
        let blocks = [(); HELD].map(|()| alloc_pages(instance, order));
        Self { instance, order, blocks, next: 0 }
    }

    #[inline]
    fn replace(&mut self) {
        let place = &mut self.blocks[self.next % HELD];
        // SAFETY: the block came from this instance with this order, and is forgotten right here.
        unsafe { self.instance.free_pages(*place, self.order) };
        *place = alloc_pages(self.instance, self.order);
        self.next += 1;
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        for block in self.blocks {
            // SAFETY: as in `replace`.
            unsafe { self.instance.free_pages(block, self.order) };
        }
    }
}

#[inline]
fn alloc_pages(instance: &Instance, order: u32) -> *mut u8 {
    let block = black_box(instance.alloc_pages(order, Migratetype::Movable));
    assert!(!block.is_null(), "out of memory");
    block
}

/// One block replaced by each thread, for each order.
fn replacements(criterion: &mut Criterion, threads: usize) {
    for (high_orders, state) in [(true, "on"), (false, "off")] {
        let name = format!("pages by {threads}, high orders {state}");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(threads as u64));
        let instance =
            Instance::new(Config { pcp_high_orders: high_orders, ..Config::new() }).expect("memory");
        for order in 0..=MAX_ORDER {
            group.bench_function(BenchmarkId::from_parameter(order), |bencher| {
                bencher.iter_custom(|count| {
                    let replace = |ring: &mut Ring| (0..count).for_each(|_| ring.replace());
                    race(threads, |_| Ring::new(&instance, order), replace)
                });
            });
        }
        group.finish();
    }
}

fn one_thread(criterion: &mut Criterion) {
    replacements(criterion, 1);
}

fn contended(criterion: &mut Criterion) {
    replacements(criterion, THREADS);
}

fn system(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pages of the system");
    for order in [0, 3, 9] {
        group.bench_function(BenchmarkId::from_parameter(order), |bencher| {
            bencher.iter(|| black_box(MmapMut::map_anon(4096 << order).expect("memory")));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = one_thread, contended, system
}
criterion_main!(benches);
