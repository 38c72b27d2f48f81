//! What programs keep their memory in: maps, trees, and the values of a parser.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;

use rustc_hash::FxBuildHasher;
use serde_json::{Value, json};

use super::Named;
use super::meter::{Figures, measure};
use super::random::Random;

pub const ALL: Named = &[("btreemap", btree_map), ("hashmap", hash_map), ("parse", parse), ("trees", trees)];

/// Words of 8 to 60 letters, each different from the others.
fn words(count: usize) -> Vec<String> {
    let mut random = Random::new(count as u64);
    let word = |number| format!("{number:08}{:.<1$}", "", random.below(53));
    (0..count).map(word).collect()
}

/// One map of words after another, filled in the order of its keys and dropped.
fn btree_map() -> Figures {
    const MAPS: usize = 12_000;
    const ENTRIES: usize = 100;
    let values = words(ENTRIES);
    measure((MAPS * ENTRIES) as u64, || {
        for _ in 0..MAPS {
            let mut map = BTreeMap::new();
            for (key, value) in values.iter().enumerate() {
                map.insert(key, value.clone());
            }
            drop(black_box(map));
        }
    })
}

/// Words under words: one comes, the oldest goes.
fn hash_map() -> Figures {
    const WORK: usize = 1_000_000;
    const LIVE: usize = 500;
    let keys = words(2 * LIVE);
    let mut map = HashMap::with_hasher(FxBuildHasher);
    measure(WORK as u64, || {
        for number in 0..WORK {
            let key = &keys[number % keys.len()];
            map.insert(key.clone(), key.clone());
            map.remove(&keys[(number + LIVE) % keys.len()]);
        }
        map.clear();
    })
}

/// A text of many small records, read into a tree of strings, lists and maps, and dropped.
fn parse() -> Figures {
    const ROUNDS: u64 = 100;
    const RECORDS: usize = 1000;
    let record = |(number, word): (usize, String)| {
        let parts = ["one", "two", &word];
        json!({ "name": word, "number": number, "parts": parts, "place": { "x": number, "y": [1, 2, 3] } })
    };
    let text = Value::from_iter(words(RECORDS).into_iter().enumerate().map(record)).to_string();
    measure(ROUNDS * RECORDS as u64, || {
        for _ in 0..ROUNDS {
            let value: Value = serde_json::from_str(&text).expect("well-formed text");
            drop(black_box(value));
        }
    })
}

struct Tree {
    branches: Option<[Box<Tree>; 2]>,
}

impl Tree {
    fn nodes(&self) -> u64 {
        1 + self.branches.iter().flatten().map(|branch| branch.nodes()).sum::<u64>()
    }
}

/// Binary trees of boxes, small ones beside a large one that stays.
fn trees() -> Figures {
    const TREES: u64 = 7000;
    const HEIGHT: u32 = 9;
    let large = tree(16);
    let figures = measure(TREES << (HEIGHT + 1), || {
        for _ in 0..TREES {
            let small = black_box(tree(HEIGHT));
            assert_eq!(small.nodes(), (2 << HEIGHT) - 1);
        }
    });
    drop(black_box(large));
    figures
}

fn tree(height: u32) -> Tree {
    Tree { branches: (height > 0).then(|| [Box::new(tree(height - 1)), Box::new(tree(height - 1))]) }
}
