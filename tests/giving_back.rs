//! What the process has in memory, and in how many mappings, while a program works and after it has freed: nobody asks for
//! anything to be given back.

mod common;
#[path = "common/heap.rs"]
mod heap;

use std::alloc::Layout;

use common::native::conforms;
use heap::{Block, Random, figure, layout, zoneinfo};
use pcpmalloc::{Config, Instance};

#[test]
fn a_burst_of_small_objects_leaves_nothing() {
    conforms("burst.c", &["1"]);
}

#[test]
fn a_burst_freed_by_other_threads_leaves_nothing() {
    conforms("burst.c", &["2"]);
    conforms("burst.c", &["6"]);
}

#[test]
fn blocks_that_come_and_go_keep_their_pages() {
    for threads in ["1", "2", "8"] {
        conforms("cycles.c", &[threads, "2000"]);
    }
}

#[test]
fn a_large_heap_has_few_mappings() {
    conforms("mappings.c", &[]);
}

/// An object and its layout.
type Object = (*mut u8, Layout);

#[test]
fn a_fragmented_heap_keeps_its_caches() {
    let heap = Instance::new(Config { slack: 0, ..Config::new() }).expect("an instance");
    let mut random = Random(5);
    let mut live = Vec::new();
    let alloc = |live: &mut Vec<Object>, random: &mut Random, count| {
        for _ in 0..count {
            let layout = layout(1 + random.below(1200), 8);
            live.push((heap.alloc(layout), layout));
        }
    };
    let free = |live: &mut Vec<Object>, random: &mut Random, count| {
        for _ in 0..count {
            let (object, layout) = live.swap_remove(random.below(live.len()));
            // SAFETY: allocated above with this layout, and freed once.
            unsafe { heap.dealloc(object, layout) };
        }
    };
    // Of many objects nine of ten go, here and there.
    alloc(&mut live, &mut random, 120_000);
    free(&mut live, &mut random, 108_000);
    let events = |name| figure(&zoneinfo(&heap), name);
    let (relief, misses) = (events("relief"), events("free_miss"));
    assert!(relief > 0, "a program that frees most of what it had empties its caches");
    // Then as much comes as goes.
    for _ in 0..300 {
        alloc(&mut live, &mut random, 2000);
        free(&mut live, &mut random, 2000);
    }
    let (more, missed) = (events("relief") - relief, events("free_miss") - misses);
    assert!(missed > 2000, "{missed} frees past the sheaves");
    assert!(more <= 20, "caches were emptied {more} times in {missed} misses");
    let count = live.len();
    free(&mut live, &mut random, count);
    heap.validate().expect("sound");
}

#[test]
fn blocks_that_grow_in_turn_move_rarely() {
    let heap = Instance::new(Config::new()).expect("an instance");
    let mut blocks: Vec<_> =
        (0..4).map(|seed| Block::new(&heap, layout(300 << 10, 8), seed).expect("memory")).collect();
    let mut moved = 0;
    // By 100 KiB at a time, up to 12 MiB each.
    for step in 1..120 {
        for block in &mut blocks {
            let before = block.address;
            assert!(block.resize(&heap, (300 + 100 * step) << 10));
            moved += usize::from(block.address != before);
        }
    }
    // Of 476 times all but a few in place.
    assert!(moved <= 4 * 16, "{moved} moves");
    blocks.into_iter().for_each(|block| block.free(&heap));
    heap.validate().expect("sound");
}
