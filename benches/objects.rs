//! Small objects on the global face: pairs, batches in three orders of freeing, and zeroed ones. The harness
//! runs on the system's allocator; what is measured calls pcpmalloc by its handle.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pcpmalloc::PcpMalloc;

static HEAP: PcpMalloc = PcpMalloc::new();

/// Objects of a batch: more than a sheaf holds.
const BATCH: usize = 1000;

fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: no layout here is empty.
    unsafe { HEAP.alloc(layout) }
}

fn dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: every caller frees a block once, with the layout that it allocated it for.
    unsafe { HEAP.dealloc(block, layout) }
}

fn pairs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");
    let constant = Layout::new::<[u64; 8]>();
    group.bench_function("constant 64", |bencher| {
        bencher.iter(|| dealloc(black_box(alloc(constant)), constant));
    });
    for size in [8, 64, 256, 1024, 8192, 32 << 10, 256 << 10] {
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        group.bench_with_input(BenchmarkId::from_parameter(size), &layout, |bencher, layout| {
            bencher.iter(|| {
                let layout = black_box(*layout);
                dealloc(black_box(alloc(layout)), layout);
            });
        });
    }
    group.finish();
}

/// The same blocks in the order in which they are to be freed.
fn reorder(blocks: &mut [*mut u8], order: &str) {
    match order {
        "first in, first out" => {}
        "last in, first out" => blocks.reverse(),
        _ => {
            // A fixed shuffle: Fisher and Yates with a linear congruence (Knuth's MMIX constants).
            let mut state = 1_u64;
            for last in (1..blocks.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                blocks.swap(last, (state >> 33) as usize % (last + 1));
            }
        }
    }
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 1000");
    group.throughput(Throughput::Elements(BATCH as u64));
    for order in ["first in, first out", "last in, first out", "random"] {
        for size in [16, 64, 512] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            let mut positions: Vec<*mut u8> = (0..BATCH).map(std::ptr::without_provenance_mut).collect();
            reorder(&mut positions, order);
            let positions: Vec<usize> = positions.iter().map(|position| position.addr()).collect();
            let mut blocks = vec![std::ptr::null_mut(); BATCH];
            group.bench_function(BenchmarkId::new(order, size), |bencher| {
                bencher.iter(|| {
                    for block in &mut blocks {
                        *block = alloc(layout);
                    }
                    for position in &positions {
                        dealloc(blocks[*position], layout);
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
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                || layout,
                // SAFETY: the layout is not empty.
                |layout| dealloc(black_box(unsafe { HEAP.alloc_zeroed(layout) }), layout),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, pairs, batches, zeroed);
criterion_main!(benches);
