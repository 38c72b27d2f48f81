//! The patch's experiment for regression runs: a few message sizes of examples/udp_stream.rs, which has the whole of it,
//! with high orders on the lists and without.

#![allow(dead_code, reason = "a part of the example's modules")]

#[path = "../examples/udp_stream/buffers.rs"]
mod buffers;
#[path = "common/mod.rs"]
mod common;
#[path = "../examples/udp_stream/cpus.rs"]
mod cpus;
#[path = "../examples/udp_stream/meter.rs"]
mod meter;
#[path = "../examples/udp_stream/stream.rs"]
mod stream;

use buffers::Source;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pcpmalloc::{Config, Instance};

fn streams(criterion: &mut Criterion) {
    let instances = [true, false].map(|pcp_high_orders| {
        Instance::new(Config { pcp_high_orders, pcp_batch: 63, ..Config::new() }).expect("memory")
    });
    for (candidate, state) in ["on", "off"].into_iter().enumerate() {
        let mut group = criterion.benchmark_group(format!("UDP stream, high orders {state}"));
        group.throughput(Throughput::Elements(1));
        for size in [64, 4096, 16384] {
            stream::with_receiver(&instances, Source::Blocks.shape(size), size, |sender| {
                group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                    bencher.iter_custom(|count| sender.run(candidate, count).wall);
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = streams
}
criterion_main!(benches);
