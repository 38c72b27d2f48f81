//! What the caches of all threads hold together stays within the budget, which is a sixteenth of the heap's limit.

#[path = "common/heap.rs"]
mod heap;

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;
use std::thread;

use heap::{layout, zoneinfo};
use pcpmalloc::{Config, Instance, Migratetype};

const LIMIT: usize = 64 << 20;
const BUDGET: usize = LIMIT / 16;
/// What the barn of a class of small objects holds on top of it.
const BARN: usize = 256 << 10;

fn new_heap() -> Instance {
    Instance::new(Config { limit: LIMIT, ..Config::new() }).expect("an instance")
}

/// Allocates and frees so many objects of a layout, all at once.
fn use_and_free(heap: &Instance, layout: Layout, count: usize) {
    let objects: Vec<_> = (0..count).map(|_| heap.alloc(layout)).collect();
    for object in objects {
        assert!(!object.is_null());
        // SAFETY: allocated just now with this layout, and freed once.
        unsafe { heap.dealloc(object, layout) };
    }
}

/// Runs `work` on so many threads, and `meanwhile` when all of them have done it and are idle. Whoever panics still lets
/// the others go on.
fn while_idle<R>(threads: usize, work: impl Fn(usize) + Sync, meanwhile: impl FnOnce() -> R) -> R {
    let (worked, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        let spawn = |number| {
            let (work, worked, end) = (&work, &worked, &end);
            let body = move || {
                let result = catch_unwind(AssertUnwindSafe(|| work(number)));
                worked.wait();
                end.wait();
                result.unwrap_or_else(|panic| resume_unwind(panic));
            };
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, body).expect("a thread starts")
        };
        let all: Vec<_> = (0..threads).map(spawn).collect();
        worked.wait();
        let result = catch_unwind(AssertUnwindSafe(meanwhile));
        end.wait();
        // The end of the scope alone would not wait for their exit handlers.
        all.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[test]
fn two_thousand_idle_threads_hold_no_more_than_the_budget() {
    const THREADS: usize = 2000;
    const SIZES: [usize; 4] = [16, 100, 700, 3000];
    let heap = new_heap();
    let work = |_| SIZES.iter().for_each(|size| use_and_free(&heap, layout(*size, 8), 40));
    let usage = while_idle(THREADS, work, || heap.validate().expect("sound"));
    assert_eq!(usage.live_objects, 0);
    // Barns come on top, whatever the number of threads.
    let cached = usage.cached_objects + usage.pages.pcp * 4096;
    assert!(cached <= BUDGET + BARN * SIZES.len(), "{cached} bytes in caches");
    // With the threads all of it goes.
    heap.trim();
    let usage = heap.validate().expect("sound");
    assert_eq!((usage.cached_objects, usage.pages.pcp, usage.pages.slab), (0, 0, 0));
}

/// Pages that the lists of all threads may hold, which is what the budget pays for.
fn room_on_lists(heap: &Instance) -> usize {
    let text = zoneinfo(heap);
    let highs = text.lines().filter_map(|line| line.trim().strip_prefix("high: "));
    highs.map(|high| high.parse::<usize>().expect("a number")).sum()
}

#[test]
fn idle_threads_are_drained_where_others_are_refused() {
    // Lists of a fixed length, which do not shrink by themselves.
    let heap = Instance::new(Config { limit: LIMIT, pcp_high: 100, ..Config::new() }).expect("an instance");
    let fill = |_| {
        for order in [0, 1, 2, 3].repeat(3) {
            let blocks: Vec<_> = (0..60).map(|_| heap.alloc_pages(order, Migratetype::Movable)).collect();
            for block in blocks {
                assert!(!block.is_null());
                // SAFETY: a block of this order, freed once.
                unsafe { heap.free_pages(block, order) };
            }
        }
    };
    while_idle(8, fill, || {
        let before = room_on_lists(&heap);
        assert!(before * 4096 > BUDGET / 4, "room for {before} pages on lists");
        // A thread that wants much in caches; what it gets is what the idle ones had.
        for round in 0..400 {
            use_and_free(&heap, layout(16 << (round % 10), 8), 500);
        }
        let usage = heap.validate().expect("sound");
        let after = room_on_lists(&heap);
        // Its own list is the one that is left.
        assert!(after <= 100, "room for {before} pages on lists before, for {after} after");
        assert!(usage.cached_objects + after * 4096 <= BUDGET + (64 << 10), "{usage:?}");
    });
}
