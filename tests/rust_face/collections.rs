//! The standard library's collections, growing, shrinking and passing between threads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::heap::Random;
use crate::{count, on};

#[test]
fn collections_grow_and_shrink() {
    for handle in ["plain", "small", "wide"] {
        if on(handle, "collections::collections_grow_and_shrink") {
            let before = count();
            (0..3).for_each(|_| use_collections());
            let after = count();
            assert_eq!(after.live_objects, before.live_objects, "all that was made was dropped");
            assert_eq!((after.pages.run, after.dedicated), (before.pages.run, before.dedicated));
            return;
        }
    }
}

fn use_collections() {
    let mut random = Random(1);
    // Past the border of mappings of their own, one by one, and back.
    let mut numbers: Vec<u64> = Vec::new();
    (0..5_000_000).for_each(|number| numbers.push(number));
    numbers.truncate(300_000);
    numbers.shrink_to_fit();
    assert!(numbers.iter().copied().eq(0..300_000));
    numbers.truncate(3);
    numbers.shrink_to_fit();
    assert_eq!(numbers, [0, 1, 2]);

    let mut text = String::new();
    for number in 0..200_000 {
        text.push_str(&number.to_string());
        text.push('\n');
    }
    assert!(text.lines().map(|line| line.parse::<u32>().expect("a number")).eq(0..200_000));

    let mut map = HashMap::new();
    let mut ordered = BTreeMap::new();
    for _ in 0..60_000 {
        let key = random.below(20_000);
        match random.below(3) {
            0 => {
                map.remove(&key);
                ordered.remove(&key);
            }
            _ => {
                let value = vec![key as u8; random.below(300)];
                map.insert(key, value.clone());
                ordered.insert(key, value);
            }
        }
    }
    assert_eq!(map.len(), ordered.len());
    assert!(
        ordered.iter().all(|(key, value)| map[key] == *value && value.iter().all(|byte| *byte == *key as u8))
    );

    let mut queue = VecDeque::new();
    for number in 0..100_000_u32 {
        queue.push_back(Box::new(number));
        if number % 3 == 2 {
            queue.pop_front();
        }
    }
    assert!(queue.iter().map(|number| **number).eq(33_333..100_000));
}

#[test]
fn blocks_made_here_and_dropped_there() {
    if !on("plain", "collections::blocks_made_here_and_dropped_there") {
        return;
    }
    let round = || {
        // A few batches under way at a time, so that what is live stays small however many pass.
        let (sender, receiver) = sync_channel::<Vec<Box<[u8]>>>(4);
        let makers: Vec<_> = (0..3)
            .map(|seed| {
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut random = Random(seed);
                    for batch in 0..300 {
                        let block = |_| vec![batch as u8; random.below(400)].into_boxed_slice();
                        sender.send((0..200).map(block).collect()).expect("somebody receives");
                    }
                })
            })
            .collect();
        drop(sender);
        for batch in receiver {
            let byte = batch.iter().flatten().next().copied().expect("not all are empty");
            assert!(batch.iter().flatten().all(|other| *other == byte));
        }
        makers.into_iter().for_each(|maker| maker.join().expect("a maker ends"));
    };
    round();
    let managed = count().pages.managed;
    for _ in 0..3 {
        round();
    }
    let usage = count();
    assert!(
        usage.pages.managed <= managed + (8 << 20) / 4096,
        "{managed} pages after a round, now {usage:?}"
    );
}
