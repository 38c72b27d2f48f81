//! The outside world fails: each n-th system call of a scripted workload in turn, and all from some moment on. Blocks
//! that exist stay as they are, nothing is lost, and the heap works again afterwards. Limits, slack and giving back
//! are here too.
//!
//! What fails is the process's, so each of these tests runs in a process of its own.

#[path = "common/heap.rs"]
mod heap;

use heap::{Block, Random, alone, figure, layout, memory, zoneinfo};
use pcpmalloc::fault::{Call, arm, left};
use pcpmalloc::{Config, Hugepages, Instance, Migratetype};

/// As `alone`, for tests that need faults, which only a build with debug assertions can bring about.
fn armed(name: &str) -> bool {
    if !arm(Call::Any, 0, 0) {
        println!("skipped: {name} needs a build with debug assertions");
        return false;
    }
    alone(name)
}

fn new_heap(config: Config) -> Instance {
    Instance::new(config).expect("an instance")
}

/// A workload with all that makes system calls: new arenas, records, sections, mappings of their own that grow, move
/// and shrink, giving back, and draining other threads' lists. Null is an answer everywhere. Leaves the heap empty,
/// and returns how many allocations failed.
fn workload(heap: &Instance) -> usize {
    let mut failed = 0;
    let mut blocks = Vec::new();
    let mut keep = |block: Option<Block>, failed: &mut usize| match block {
        Some(block) => blocks.push(block),
        None => *failed += 1,
    };
    for size in [1, 100, 3000, 8000] {
        for _ in 0..40 {
            keep(Block::new(heap, layout(size, 8), 1), &mut failed);
        }
    }
    for pages in [1, 5, 100, 500, 700, 1500] {
        let size = (pages << 12) - 7;
        keep(Block::new(heap, layout(size, 8), 2), &mut failed);
        let address = heap.alloc_zeroed(layout(size, 8));
        if !address.is_null() {
            // SAFETY: a block of `size` zeroed bytes, which nobody else uses.
            let bytes = unsafe { std::slice::from_raw_parts(address, size) };
            assert!(heap::all_are(bytes, 0), "{size} bytes at {address:p} are not zeroed");
        }
        keep(Block::filled(address, layout(size, 8), 3), &mut failed);
    }
    keep(Block::new(heap, layout(100, 4 << 20), 4), &mut failed);
    keep(Block::new(heap, layout(3 << 20, 8), 5), &mut failed);
    keep(Block::new(heap, layout(32 << 20, 8), 6), &mut failed);
    // Up over the border to a mapping of its own, where it stands or by a move, and down again.
    for (back, mib) in [(0, 33), (1, 33), (0, 36), (1, 1), (0, 2)] {
        if let Some(block) = blocks.iter_mut().rev().nth(back) {
            failed += usize::from(!block.resize(heap, mib << 20));
        }
    }
    for block in blocks.iter_mut().step_by(7) {
        let size = block.layout.size() * 2 + 1;
        failed += usize::from(!block.resize(heap, size));
    }
    let pages = heap.alloc_pages(9, Migratetype::Movable);
    failed += usize::from(pages.is_null());
    if !pages.is_null() {
        // SAFETY: a block of order 9, freed once.
        unsafe { heap.free_pages(pages, 9) };
    }
    let (freed, kept): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    freed.into_iter().for_each(|(_, block)| block.free(heap));
    heap.trim();
    kept.into_iter().for_each(|(_, block)| block.free(heap));
    heap.trim();
    failed
}

/// Nothing is in use, nothing is cached, and everything adds up.
fn check_empty(heap: &Instance) {
    let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((usage.live_objects, usage.pages.run, usage.dedicated), (0, 0, 0));
    assert_eq!((usage.cached_objects, usage.pages.slab, usage.pages.pcp), (0, 0, 0));
}

/// Lets the n-th calls of one kind fail, for each n there is, `fail` in a row: first in a heap that works already, then
/// in one that is new. Returns how many calls there were.
fn each_fails(call: Call, fail: u64) -> u64 {
    let mut calls = 0;
    for pass in 0.. {
        let heap = new_heap(Config::new());
        assert!(arm(call, pass, fail), "tests have debug assertions");
        let failed = workload(&heap);
        let struck = fail - left();
        arm(call, 0, 0);
        // A fault alone, or its absence, explains what failed.
        assert!(failed == 0 || struck > 0, "{failed} allocations failed without a cause");
        heap.trim();
        check_empty(&heap);
        // It works again, and needs no more than it did before.
        assert_eq!(workload(&heap), 0, "{call:?} {pass}");
        heap.trim();
        check_empty(&heap);
        if struck == 0 {
            break;
        }
        calls = pass + 1;
    }
    calls
}

/// Random operations, each with a random fault in its way; null is an answer wherever one struck.
fn random_faults(seed: u64, operations: usize) {
    let mut random = Random(seed);
    let heap = new_heap(Config { slack: random.below(4) << 20, ..Config::new() });
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..operations {
        let call = [Call::Map, Call::Unmap, Call::Remap, Call::Advise][random.below(4)];
        let fail = random.below(4) as u64;
        arm(call, random.below(3) as u64, fail);
        let size = match random.below(40) {
            0 => random.below(40 << 20),
            1..=5 => random.below(3 << 20),
            6..=15 => random.below(100_000),
            _ => random.below(9_000),
        };
        let held: usize = blocks.iter().map(|block| block.layout.size()).sum();
        let at = random.below(blocks.len().max(1));
        let done = match random.below(8) {
            0..=3 if held < 100 << 20 => {
                let block =
                    Block::new(&heap, layout(size, 1 << random.below(14)), random.below(255) as u8 + 1);
                let done = block.is_some();
                blocks.extend(block);
                done
            }
            4 | 5 if !blocks.is_empty() && held < 100 << 20 => blocks[at].resize(&heap, size),
            6 if random.below(10) == 0 => {
                heap.trim();
                true
            }
            _ if !blocks.is_empty() => {
                blocks.swap_remove(at).free(&heap);
                true
            }
            _ => true,
        };
        assert!(done || left() < fail, "an allocation failed without a cause, seed {seed}");
    }
    arm(Call::Any, 0, 0);
    let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}, seed {seed}"));
    assert!(usage.live_objects > 0 && usage.pages.run > 0);
    blocks.into_iter().for_each(|block| block.free(&heap));
    heap.trim();
    check_empty(&heap);
    assert_eq!(workload(&heap), 0);
}

#[test]
fn random_operations_under_random_faults() {
    if armed("random_operations_under_random_faults") {
        (0..12).for_each(|seed| random_faults(seed, 1_500));
    }
}

/// Runs `each_fails` and checks that what was mapped is unmapped in the end.
fn fails_without_a_loss(call: Call) {
    workload(&new_heap(Config::new()));
    let (before, _) = memory();
    let calls = each_fails(call, 1);
    assert!(calls > 0, "the workload makes {call:?} calls");
    each_fails(call, u64::MAX);
    let (after, _) = memory();
    // Struct pages of sections, 2 MiB each, stay; the address space may have come to lie in a few others.
    assert!(
        after <= before + (16 << 20),
        "{calls} calls of {call:?}: {before} bytes mapped before, {after} after"
    );
}

#[test]
fn no_memory_at_the_nth_mapping() {
    if armed("no_memory_at_the_nth_mapping") {
        fails_without_a_loss(Call::Map);
    }
}

#[test]
fn no_move_of_the_nth_mapping() {
    if armed("no_move_of_the_nth_mapping") {
        fails_without_a_loss(Call::Remap);
        // Without mremap a copy does it.
        let heap = new_heap(Config::new());
        arm(Call::Remap, 0, u64::MAX);
        assert_eq!(workload(&heap), 0);
        assert!(u64::MAX - left() > 4);
    }
}

#[test]
fn no_effect_of_the_nth_advice() {
    if armed("no_effect_of_the_nth_advice") {
        fails_without_a_loss(Call::Advise);
        let heap = new_heap(Config::new());
        arm(Call::Advise, 0, u64::MAX);
        assert_eq!(workload(&heap), 0, "advice is never needed");
        assert_eq!(heap.trim(), 0, "nothing could be given back");
    }
}

#[test]
fn the_nth_mapping_stays() {
    if armed("the_nth_mapping_stays") {
        // What cannot be unmapped is lost as address space, so only its memory is asked for.
        workload(&new_heap(Config::new()));
        let (_, before) = memory();
        assert!(each_fails(Call::Unmap, 1) > 0);
        let (_, after) = memory();
        assert!(after <= before + (16 << 20), "{before} bytes resident before, {after} after");
    }
}

#[test]
fn no_barrier() {
    if armed("no_barrier") {
        let heap = new_heap(Config::new());
        let stays = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            // Another thread's lists, which only a barrier lets others take.
            scope.spawn(|| {
                workload(&heap);
                Block::new(&heap, layout(5000, 8), 1).expect("memory").free(&heap);
                stays.wait();
                stays.wait();
            });
            stays.wait();
            arm(Call::Membarrier, 0, u64::MAX);
            let mut failed = workload(&heap);
            heap.set_pcp_high_orders(false);
            failed += workload(&heap);
            arm(Call::Membarrier, 0, 0);
            // A kernel that refuses once is not asked again. Whatever cannot be drained, nothing is wrong with the heap.
            let usage = heap.validate();
            stays.wait();
            assert_eq!(failed, 0);
            let usage = usage.unwrap_or_else(|violation| panic!("{violation}"));
            assert_eq!((usage.live_objects, usage.pages.run, usage.dedicated), (0, 0, 0));
        });
    }
}

#[test]
fn no_memory_for_a_new_heap() {
    if armed("no_memory_for_a_new_heap") {
        workload(&new_heap(Config::new()));
        arm(Call::Map, 0, u64::MAX);
        assert!(Instance::new(Config::new()).is_none());
        arm(Call::Map, 1, u64::MAX);
        let heap = Instance::new(Config::new()).expect("one mapping is enough");
        assert!(heap.alloc(layout(1, 1)).is_null());
        assert!(heap.alloc(layout(100_000, 1)).is_null());
        assert!(heap.alloc(layout(40 << 20, 1)).is_null());
        assert!(heap.alloc_pages(0, Migratetype::Movable).is_null());
        assert_eq!(heap.trim(), 0);
        check_empty(&heap);
        arm(Call::Map, 0, 0);
        assert_eq!(workload(&heap), 0);
    }
}

#[test]
fn no_hugepages_in_the_pool() {
    if armed("no_hugepages_in_the_pool") {
        let heap = new_heap(Config { hugepages: Hugepages::Hugetlb, ..Config::new() });
        assert_eq!(workload(&heap), 0);
        heap.trim();
        check_empty(&heap);
        each_fails(Call::Map, 2);
    }
}

/// Fills a heap with blocks of `size` bytes until it returns null.
fn fill(heap: &Instance, size: usize) -> Vec<Block> {
    std::iter::from_fn(|| Block::new(heap, layout(size, 8), 7)).collect()
}

#[test]
fn a_limit_is_the_end_and_no_more() {
    const LIMIT: usize = 24 << 20;
    let heap = new_heap(Config { limit: LIMIT, ..Config::new() });
    for size in [64, 1500, 8192, 10_000, 100_000, 1 << 20, 3 << 20, 20 << 20] {
        let blocks = fill(&heap, size);
        let bytes = blocks.len() * size;
        assert!(bytes <= LIMIT, "{bytes} in blocks of {size}");
        // Caches were emptied before null came: what is not given out is the waste of slabs and of whole pages.
        assert!(bytes >= LIMIT / 4 * 3 || size > LIMIT / 4, "{bytes} in blocks of {size}");
        assert!(heap.alloc(layout(40 << 20, 8)).is_null());
        let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        assert!((usage.pages.managed - usage.pages.free) * 4096 + usage.dedicated <= LIMIT);
        let (mut last, kept): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(at, _)| at % 3 == 0);
        if let Some((_, block)) = last.first_mut() {
            assert!(!block.resize(&heap, LIMIT + 1));
        }
        last.into_iter().for_each(|(_, block)| block.free(&heap));
        Block::new(&heap, layout(size, 8), 8).expect("there is room again").free(&heap);
        kept.into_iter().for_each(|(_, block)| block.free(&heap));
        heap.trim();
        check_empty(&heap);
    }
    // One byte short of the limit, as mappings of their own.
    let heap = new_heap(Config { limit: 80 << 20, ..Config::new() });
    let mut block = Block::new(&heap, layout(40 << 20, 8), 1).expect("there is room");
    assert!(heap.alloc(layout((40 << 20) + 4097, 8)).is_null());
    assert!(block.resize(&heap, 80 << 20));
    assert!(!block.resize(&heap, (80 << 20) + 1));
    assert!(heap.alloc(layout(1, 8)).is_null());
    assert!(block.resize(&heap, 60 << 20));
    Block::new(&heap, layout(1, 8), 1).expect("there is room again").free(&heap);
    block.free(&heap);
    heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    let nothing = new_heap(Config { limit: 0, ..Config::new() });
    assert!(nothing.alloc(layout(1, 1)).is_null() && nothing.alloc(layout(1 << 30, 1)).is_null());
    assert!(nothing.alloc_pages(0, Migratetype::Movable).is_null());
}

#[test]
fn a_limit_holds_for_pages() {
    let heap = new_heap(Config { limit: 4 << 20, ..Config::new() });
    for order in 0..=9 {
        let blocks: Vec<_> = std::iter::from_fn(|| {
            Some(heap.alloc_pages(order, Migratetype::Movable)).filter(|block| !block.is_null())
        })
        .collect();
        assert_eq!(blocks.len() << order, 1024, "order {order}");
        // SAFETY: blocks of this order, each freed once.
        blocks.into_iter().for_each(|block| unsafe { heap.free_pages(block, order) });
    }
    heap.trim();
    check_empty(&heap);
}

#[test]
fn slack_bounds_what_stays() {
    if !alone("slack_bounds_what_stays") {
        return;
    }
    for (slack, size) in [(0, 100_000), (16 << 20, 100_000), (64 << 20, 3 << 20), (4 << 20, 900)] {
        let heap = new_heap(Config { slack, ..Config::new() });
        let (_, before) = memory();
        let blocks: Vec<_> = (0..(100 << 20) / size).map(|_| Block::new(&heap, layout(size, 8), 1)).collect();
        let (_, used) = memory();
        assert!(used > before + (95 << 20));
        blocks.into_iter().for_each(|block| block.expect("memory").free(&heap));
        let (_, after) = memory();
        // Beside the slack: what a thread's lists and sheaves and the barns hold, and struct pages.
        assert!(
            after <= before + slack + (12 << 20),
            "slack {slack}, {size}: {before} before, {after} after"
        );
        assert!(figure(&zoneinfo(&heap), "purge ") > 0);
        heap.trim();
        let (_, trimmed) = memory();
        assert!(trimmed <= before + (5 << 20), "slack {slack}, {size}: {before} before, {trimmed} after");
        check_empty(&heap);
    }
}
