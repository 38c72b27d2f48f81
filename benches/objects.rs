//! Small objects on the global face: pairs of constant and of run-time sizes, batches in three orders of freeing, and
//! zeroed ones.

#[path = "common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use common::{HEAP, Random};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Objects of a batch: more than a sheaf holds.
const BATCH: usize = 1000;

#[inline(always)]
fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: no layout here is empty.
    black_box(unsafe { HEAP.alloc(layout) })
}

#[inline(always)]
fn dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: every caller frees a block once, with the layout that it allocated it for.
    unsafe { HEAP.dealloc(block, layout) }
}

/// Words, aligned to one.
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<u64>()).expect("a layout")
}

/// The compiler knows the size, and with it the class.
fn constant_pairs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair, constant size");
    macro_rules! pair {
        ($($words:literal)*) => {$(
            group.bench_function(BenchmarkId::from_parameter(8 * $words), |bencher| {
                let layout = const { Layout::new::<[u64; $words]>() };
                bencher.iter(|| dealloc(alloc(layout), layout));
            });
        )*};
    }
    pair!(1 2 4 8 16 32 64 128 256 512 1024);
    group.finish();
}

fn run_time_pairs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair, run-time size");
    for size in (3..=13).map(|power| 1 << power).chain([32 << 10, 256 << 10]) {
        group.bench_with_input(BenchmarkId::from_parameter(size), &layout(size), |bencher, layout| {
            bencher.iter(|| {
                let layout = black_box(*layout);
                dealloc(alloc(layout), layout);
            });
        });
    }
    group.finish();
}

/// The places of a batch in the order in which they are freed.
fn places(order: &str) -> Vec<usize> {
    let mut places: Vec<usize> = (0..BATCH).collect();
    match order {
        "first in, first out" => (),
        "last in, first out" => places.reverse(),
        _ => Random::new(1).shuffle(&mut places),
    }
    places
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 1000");
    group.throughput(Throughput::Elements(BATCH as u64));
    for order in ["first in, first out", "last in, first out", "random"] {
        let places = places(order);
        for size in [8, 64, 512, 4096] {
            let layout = layout(size);
            let mut blocks = vec![std::ptr::null_mut(); BATCH];
            group.bench_function(BenchmarkId::new(order, size), |bencher| {
                bencher.iter(|| {
                    for block in &mut blocks {
                        *block = alloc(layout);
                    }
                    for place in &places {
                        dealloc(blocks[*place], layout);
                    }
                });
            });
        }
    }
    group.finish();
}

fn zeroed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zeroed");
    for size in [64, 4096, 1 << 20] {
        group.bench_with_input(BenchmarkId::from_parameter(size), &layout(size), |bencher, layout| {
            bencher.iter(|| {
                let layout = black_box(*layout);
                // SAFETY: the layout is not empty.
                dealloc(black_box(unsafe { HEAP.alloc_zeroed(layout) }), layout);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = constant_pairs, run_time_pairs, batches, zeroed
}
criterion_main!(benches);
