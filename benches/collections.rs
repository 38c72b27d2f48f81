//! What programs keep their memory in: trees, hash maps, and what a parser makes of a text. The whole program runs on
//! pcpmalloc, as one that uses it does; benches/rivals has the same on other allocators.

#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;

use common::Random;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pcpmalloc::PcpMalloc;

#[global_allocator]
static GLOBAL: PcpMalloc = PcpMalloc::new();

/// Entries of a map.
const ENTRIES: usize = 1000;

/// A map whose order is the same every time.
type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Different words of 8 to 60 letters, in random order.
fn words(count: usize) -> Vec<String> {
    let mut random = Random::new(count);
    let mut words: Vec<String> =
        (0..count).map(|number| format!("{number:08}{:.<1$}", "", random.below(53))).collect();
    random.shuffle(&mut words);
    words
}

fn tree(criterion: &mut Criterion) {
    let words = words(ENTRIES);
    let mut group = criterion.benchmark_group("BTreeMap");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("fill and drop, strings to strings", |bencher| {
        bencher.iter(|| words.iter().map(|word| (word.clone(), word.clone())).collect::<BTreeMap<_, _>>());
    });
    group.bench_function("fill and drop, numbers", |bencher| {
        // An odd factor spreads the keys over all of the tree.
        let keys = || (0..ENTRIES as u64).map(|number| number.wrapping_mul(0x9e37_79b9));
        bencher.iter(|| {
            let mut map = BTreeMap::new();
            for key in keys() {
                map.insert(key, key);
            }
            map
        });
    });
    let full: BTreeMap<usize, String> = words.iter().cloned().enumerate().collect();
    group.bench_function("replace the oldest entry", |bencher| {
        bencher.iter_batched_ref(
            || full.clone(),
            |map| {
                for (number, word) in words.iter().enumerate() {
                    drop(map.pop_first());
                    map.insert(ENTRIES + number, word.clone());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn hash_map(criterion: &mut Criterion) {
    let words = words(ENTRIES);
    let mut group = criterion.benchmark_group("HashMap");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("fill and drop, strings to strings", |bencher| {
        bencher.iter(|| words.iter().map(|word| (word.clone(), word.clone())).collect::<Map<_, _>>());
    });
    group.bench_function("lists under words", |bencher| {
        bencher.iter(|| {
            let mut lists: Map<String, Vec<usize>> = Map::default();
            for (number, word) in words.iter().enumerate() {
                // A hundred different beginnings.
                lists.entry(word[4..8].to_owned()).or_default().push(number);
                lists.entry(word[..6].to_owned()).or_default().push(number);
            }
            lists
        });
    });
    let full: Map<String, String> = words.iter().map(|word| (word.clone(), word.clone())).collect();
    group.bench_function("remove and insert", |bencher| {
        bencher.iter_batched_ref(
            || full.clone(),
            |map| {
                for word in &words {
                    drop(map.remove(word));
                    map.insert(word.clone(), word.clone());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What a line of the text says.
struct Record {
    name: String,
    tags: Vec<String>,
    fields: BTreeMap<String, String>,
}

/// A line is `name;tag,tag,...;key=value;key=value;...`.
fn parse_line(line: &str) -> Record {
    let mut parts = line.split(';');
    let mut part = || parts.next().unwrap_or_default();
    let name = part().to_owned();
    let tags = part().split(',').map(str::to_lowercase).collect();
    let fields = parts.filter_map(|field| field.split_once('='));
    let fields = fields.map(|(key, value)| (key.to_owned(), value.replace('.', " "))).collect();
    Record { name, tags, fields }
}

fn write_line(record: &Record) -> String {
    let fields: Vec<String> = record.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{};{};{}", record.name, record.tags.join(","), fields.join(";"))
}

/// A text of records, read into strings, lists and maps, written again, and dropped.
fn parse(criterion: &mut Criterion) {
    let mut random = Random::new(2);
    let line = |word: String| {
        let tags: Vec<&str> = (0..random.between(1, 6)).map(|_| "Tag-of-a-record").collect();
        let fields = (0..random.between(1, 12)).map(|number| format!(";field-{number}={word}"));
        format!("{word};{}{}", tags.join(","), fields.collect::<String>())
    };
    let text = words(ENTRIES).into_iter().map(line).collect::<Vec<_>>().join("\n");
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("read and drop", |bencher| {
        bencher.iter(|| black_box(&text).lines().map(parse_line).collect::<Vec<_>>());
    });
    group.bench_function("read, write and drop", |bencher| {
        let rewrite = |line| write_line(&parse_line(line));
        bencher.iter(|| black_box(&text).lines().map(rewrite).collect::<Vec<_>>());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = tree, hash_map, parse
}
criterion_main!(benches);
