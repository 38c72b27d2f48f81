//! Pages: blocks of orders 0 to 10 from a private instance, on one thread and on four, with high orders on the
//! threads' page lists and without; and beside them the same from the system, one mapping each.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memmap2::MmapMut;
use pcpmalloc::{Config, Instance, Migratetype};

/// Blocks held at once, so that lists are really drawn on.
const HELD: usize = 16;

fn rounds(instance: &Instance, order: u32, rounds: u64) {
    let mut held: [*mut u8; HELD] = [std::ptr::null_mut(); HELD];
    for round in 0..rounds {
        let place = &mut held[round as usize % HELD];
        if !place.is_null() {
            // SAFETY: the block came from this instance with this order, and is forgotten right here.
            unsafe { instance.free_pages(*place, order) };
        }
        *place = black_box(instance.alloc_pages(order, Migratetype::Movable));
    }
    for block in held.into_iter().filter(|block| !block.is_null()) {
        // SAFETY: as above.
        unsafe { instance.free_pages(block, order) };
    }
}

fn one_thread(criterion: &mut Criterion) {
    for high_orders in [true, false] {
        let name = if high_orders { "pages, high orders on" } else { "pages, high orders off" };
        let mut group = criterion.benchmark_group(name);
        let instance =
            Instance::new(Config { pcp_high_orders: high_orders, ..Config::new() }).expect("memory");
        for order in 0..=10 {
            group.bench_function(BenchmarkId::from_parameter(order), |bencher| {
                bencher.iter_custom(|count| {
                    let start = Instant::now();
                    rounds(&instance, order, count);
                    start.elapsed()
                });
            });
        }
        group.finish();
    }
}

fn four_threads(criterion: &mut Criterion) {
    for high_orders in [true, false] {
        let name = if high_orders { "pages by 4, high orders on" } else { "pages by 4, high orders off" };
        let mut group = criterion.benchmark_group(name);
        let instance =
            Instance::new(Config { pcp_high_orders: high_orders, ..Config::new() }).expect("memory");
        for order in [0, 1, 2, 3, 9] {
            group.bench_function(BenchmarkId::from_parameter(order), |bencher| {
                bencher.iter_custom(|count| contended(&instance, order, count));
            });
        }
        group.finish();
    }
}

/// The mean time of four threads that do `count` rounds each.
fn contended(instance: &Instance, order: u32, count: u64) -> Duration {
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    rounds(instance, order, count);
                    start.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    times.iter().sum::<Duration>() / 4
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

criterion_group!(benches, one_thread, four_threads, system);
criterion_main!(benches);
