//! Memory that grows and shrinks: vectors and strings as programs fill them, and blocks that change their size. The
//! whole program runs on pcpmalloc, as one that uses it does.

#[path = "common/mod.rs"]
mod common;

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::hint::black_box;

use common::Random;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pcpmalloc::PcpMalloc;

#[global_allocator]
static GLOBAL: PcpMalloc = PcpMalloc::new();

/// One vector, number by number.
fn vector(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vector by push");
    for length in [100_u64, 10_000, 1_000_000] {
        group.throughput(Throughput::Elements(length));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| {
                let mut numbers = Vec::new();
                (0..length).for_each(|number| numbers.push(number));
                black_box(numbers)
            });
        });
    }
    group.finish();
}

/// Many vectors that grow in turn, so that none has room behind it.
fn vectors(criterion: &mut Criterion) {
    const VECTORS: usize = 1000;
    const LENGTH: u64 = 150;
    let mut group = criterion.benchmark_group("1000 vectors in turn");
    group.throughput(Throughput::Elements(VECTORS as u64 * LENGTH));
    group.bench_function("push", |bencher| {
        bencher.iter_batched_ref(
            || (0..VECTORS).map(|_| Vec::new()).collect::<Vec<Vec<u64>>>(),
            |vectors| {
                for number in 0..LENGTH {
                    vectors.iter_mut().for_each(|vector| vector.push(number));
                }
                vectors.iter_mut().for_each(|vector| *black_box(vector) = Vec::new());
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A text put together from short pieces.
fn string(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("string by pieces of 20");
    for length in [200, 5000, 200_000] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| {
                let mut text = String::new();
                while text.len() < length {
                    text.push_str(black_box("a piece of some text"));
                }
                black_box(text)
            });
        });
    }
    group.finish();
}

/// A block that takes these sizes one after the other, and its first byte written each time.
fn take_sizes(sizes: &[usize]) {
    let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
    let mut size = sizes[0];
    // SAFETY: no size here is 0.
    let mut block = unsafe { alloc(layout(size)) };
    for new in &sizes[1..] {
        // SAFETY: the block has this layout, and the new size is not 0.
        block = black_box(unsafe { realloc(block, layout(size), *new) });
        assert!(!block.is_null(), "out of memory");
        size = *new;
        // SAFETY: the block holds a byte and is this function's alone.
        unsafe { block.write_volatile(1) };
    }
    // SAFETY: allocated here, with this layout since the last change.
    unsafe { dealloc(block, layout(size)) };
}

/// Up by doubling, as vectors grow, down by halves, and by small steps both ways.
fn reallocations(criterion: &mut Criterion) {
    let doubling = |to: u32| (4..=to).map(|power| 1 << power).collect::<Vec<usize>>();
    let there_and_back = |mut sizes: Vec<usize>| {
        sizes.extend(sizes.clone().into_iter().rev());
        sizes
    };
    let steps = |step: usize| (1..=64).map(|number| number * step).collect::<Vec<usize>>();
    let mut random = Random::new(1);
    let mut at_random = doubling(18).repeat(8);
    random.shuffle(&mut at_random);
    let mut group = criterion.benchmark_group("realloc");
    for (name, sizes) in [
        ("16 B doubled to 64 KiB", doubling(16)),
        ("16 B doubled to 64 MiB", doubling(26)),
        ("16 B to 64 KiB and back", there_and_back(doubling(16))),
        ("by 16 B to 1 KiB and back", there_and_back(steps(16))),
        ("by 4 KiB to 256 KiB and back", there_and_back(steps(4096))),
        ("16 B to 256 KiB at random", at_random),
    ] {
        group.throughput(Throughput::Elements(sizes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| take_sizes(black_box(&sizes))));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = vector, vectors, string, reallocations
}
criterion_main!(benches);
