//! A private heap as a value, as a Rust program sees it: random operations against a model, every layout there is, what
//! realloc keeps and where, and that dropping the heap returns everything.

#[path = "common/heap.rs"]
mod heap;
#[path = "common/model.rs"]
mod model;

use std::alloc::Layout;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use heap::{Block, alone, class_bytes, layout, memory};
use model::Model;
use pcpmalloc::{Config, Hugepages, Instance, Migratetype};
use proptest::prelude::*;

fn new_heap() -> Instance {
    Instance::new(Config::new()).expect("an instance")
}

proptest! {
    // Failures are shrunk and printed; a file beside the sources would only gather dust.
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_heap_does_what_its_model_does(config in model::config(), ops in model::ops()) {
        let heap = Instance::new(config).expect("an instance");
        let mut model = Model::new(&heap);
        for (number, op) in ops.iter().enumerate() {
            model.apply(op);
            if number % 40 == 39 {
                model.check();
            }
        }
        model.check();
        model.finish();
    }

    /// A block of a wrong class aborts when the trim flushes it to its slab, so a chain of reallocs that ends with a
    /// free by the last layout, a trim and a recount has used the right class at every step.
    #[test]
    fn chains_of_reallocs_end_in_the_class_of_the_last_layout(
        align in prop_oneof![8 => 0_u32..=5, 2 => 6_u32..=13],
        first in model::size(),
        sizes in prop::collection::vec(model::size(), 1..12),
    ) {
        let heap = new_heap();
        let neighbours: Vec<_> = sizes.iter().map(|size| Block::new(&heap, layout(size % 9000, 8), 2)).collect();
        let mut block = Block::new(&heap, layout(first, 1 << align), 1).expect("memory");
        for size in sizes {
            assert!(block.resize(&heap, size));
        }
        block.free(&heap);
        neighbours.into_iter().for_each(|block| block.expect("memory").free(&heap));
        heap.trim();
        let usage = heap.validate().expect("sound");
        assert_eq!((usage.live_objects, usage.cached_objects, usage.pages.slab), (0, 0, 0));
        assert_eq!((usage.dedicated, usage.pages.run), (0, 0));
    }
}

#[test]
fn every_alignment_that_a_layout_can_express() {
    let heap = new_heap();
    for shift in 0..=63 {
        let align = 1_usize << shift;
        for size in [0, 1, 2, 7, 8, 9, align / 2, align - 1, align, align + 1, 3 * (align / 2)] {
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            for zeroed in [false, true] {
                let address = if zeroed { heap.alloc_zeroed(layout) } else { heap.alloc(layout) };
                // Up to 1 GiB there is address space everywhere. Beyond, null is an answer; a wrong address is none.
                assert!(!address.is_null() || align > 1 << 30, "{layout:?}");
                assert!(address.addr().is_multiple_of(align), "{layout:?} at {address:p}");
                if !address.is_null() {
                    if size > 0 {
                        // SAFETY: the block has `size` bytes.
                        unsafe { address.write(1) };
                        // SAFETY: as above.
                        unsafe { address.wrapping_add(size - 1).write(1) };
                    }
                    // SAFETY: the block of this layout, freed once.
                    unsafe { heap.dealloc(address, layout) };
                }
            }
        }
    }
    let usage = heap.validate().expect("sound");
    assert_eq!((usage.live_objects, usage.pages.run, usage.dedicated), (0, 0, 0));
}

#[test]
fn impossible_sizes_are_null() {
    let heap = new_heap();
    let most = isize::MAX as usize;
    for (size, align) in
        [(most, 1), (most - 4095, 4096), (most - (1 << 20), 8), (1 << 62, 1 << 20), (1 << 47, 1)]
    {
        assert!(heap.alloc(layout(size, align)).is_null(), "{size} aligned to {align}");
        assert!(heap.alloc_zeroed(layout(size, align)).is_null(), "{size} aligned to {align}");
        for start in [10, 100_000, 40 << 20] {
            let mut block = Block::new(&heap, layout(start, align.min(4096)), 3).expect("memory");
            assert!(!block.resize(&heap, size), "{start} to {size}");
            block.free(&heap);
        }
    }
    assert!(heap.alloc_pages(17, Migratetype::Movable).is_null());
    assert!(heap.alloc_pages(u32::MAX, Migratetype::Movable).is_null());
    let usage = heap.validate().expect("sound");
    assert_eq!((usage.live_objects, usage.pages.run, usage.dedicated), (0, 0, 0));
}

#[test]
fn every_order_of_pages() {
    for config in
        [Config::new(), Config { hugepages: Hugepages::Off, pcp_high_orders: false, ..Config::new() }]
    {
        for order in 0..=16 {
            let heap = Instance::new(config).expect("an instance");
            let size = 4096_usize << order;
            for migratetype in [Migratetype::Unmovable, Migratetype::Movable, Migratetype::Reclaimable] {
                let blocks = [(); 2].map(|()| heap.alloc_pages(order, migratetype));
                for block in blocks {
                    assert!(!block.is_null(), "order {order}");
                    assert!(block.addr().is_multiple_of(size), "order {order} at {block:p}");
                    // SAFETY: the first byte of the block.
                    unsafe { block.write(1) };
                    // SAFETY: its last byte.
                    unsafe { block.wrapping_add(size - 1).write(1) };
                }
                assert_eq!(heap.validate().expect("sound").pages.run, 2 << order);
                // SAFETY: blocks of this order, each freed once.
                blocks.into_iter().for_each(|block| unsafe { heap.free_pages(block, order) });
                assert_eq!(heap.validate().expect("sound").pages.run, 0);
            }
        }
    }
}

#[test]
fn a_run_grows_and_shrinks_where_it_stands() {
    let heap = new_heap();
    // In a new heap all pages behind the first run of a pageblock are free, up to the pageblock's end.
    let mut run = Block::new(&heap, layout(100 << 12, 8), 1).expect("memory");
    let start = run.address;
    for pages in [101, 128, 129, 300, 512, 500, 90, 65, 200] {
        // What a shrink frees may wait on the thread's page lists, where no run finds it.
        heap.trim();
        assert!(run.resize(&heap, (pages << 12) - 5));
        assert_eq!(run.address, start, "{pages} pages");
        assert_eq!(heap.validate().expect("sound").pages.run, pages);
    }
    // A neighbour stops it; what lies between the two is still its own.
    let neighbour = Block::new(&heap, layout(100 << 12, 8), 2).expect("memory");
    assert!(neighbour.address > start && neighbour.address.addr() < start.addr() + (2 << 20));
    let between = neighbour.address.addr() - start.addr();
    assert!(run.resize(&heap, between));
    assert_eq!(run.address, start);
    assert!(run.resize(&heap, between + 1));
    assert_ne!(run.address, start);
    neighbour.check();
    for block in [run, neighbour] {
        block.free(&heap);
    }
    heap.validate().expect("sound");
}

#[test]
fn blocks_cross_all_borders_with_their_contents() {
    let heap = new_heap();
    let borders = [
        8192,
        8193,
        4 << 12,
        64 << 12,
        65 << 12,
        2 << 20,
        (2 << 20) + 1,
        (32 << 20) - 1,
        32 << 20,
        (32 << 20) + 1,
        90 << 20,
    ];
    for from in borders {
        for to in borders {
            let mut block = Block::new(&heap, layout(from, 16), 7).expect("memory");
            assert!(block.resize(&heap, to), "{from} to {to}");
            let usage = heap.validate().expect("sound");
            let expected =
                class_bytes(layout(to, 16)).map_or((0, to.div_ceil(4096) * 4096), |bytes| (bytes, 0));
            assert_eq!(
                (usage.live_objects, usage.pages.run * 4096 + usage.dedicated),
                expected,
                "{from} to {to}"
            );
            block.free(&heap);
        }
    }
}

#[test]
fn mappings_grow_by_moving_their_pages() {
    let heap = new_heap();
    let mut mapping = Block::new(&heap, layout(33 << 20, 4096), 9).expect("memory");
    // Others in the way, so that some steps cannot be taken in place.
    let mut others = Vec::new();
    for mib in [40, 41, 64, 65, 128, 96, 33, 34] {
        assert!(mapping.resize(&heap, mib << 20));
        assert_eq!(heap.validate().expect("sound").dedicated, (mib + 32 * others.len()) << 20);
        others.push(Block::new(&heap, layout(32 << 20, 8), 3).expect("memory"));
    }
    others.into_iter().chain([mapping]).for_each(|block| block.free(&heap));
    assert_eq!(heap.validate().expect("sound").dedicated, 0);
}

#[test]
fn zeroed_memory_is_zero_after_dirty_frees() {
    let heap = new_heap();
    for size in [1, 64, 8192, 8193, 9 << 12, 200 << 12, 2 << 20, 5 << 20, 33 << 20] {
        for round in 0..6 {
            let dirty: Vec<_> = (0..3).filter_map(|_| Block::new(&heap, layout(size, 8), 0xff)).collect();
            assert_eq!(dirty.len(), 3);
            dirty.into_iter().for_each(|block| block.free(&heap));
            if round % 2 == 1 {
                heap.trim();
            }
            for _ in 0..3 {
                let address = heap.alloc_zeroed(layout(size, 8));
                // SAFETY: a block of `size` zeroed bytes, freed below.
                let bytes = unsafe { std::slice::from_raw_parts(address, size) };
                assert!(heap::all_are(bytes, 0), "{size} bytes in round {round}");
                // SAFETY: the block of this layout, not used any more.
                unsafe { heap.dealloc(address, layout(size, 8)) };
            }
        }
    }
    heap.validate().expect("sound");
}

#[test]
fn empty_blocks_are_different_blocks() {
    let heap = new_heap();
    let blocks: Vec<_> = (0..100).map(|shift| heap.alloc(layout(0, 1 << (shift % 10)))).collect();
    let mut addresses: Vec<_> = blocks.iter().map(|block| block.addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 100);
    assert!(!addresses.contains(&0));
    for (shift, block) in blocks.into_iter().enumerate() {
        // SAFETY: the block of this layout, freed once; null is nobody's and ignored.
        unsafe { heap.dealloc(block, layout(0, 1 << (shift % 10))) };
    }
    // SAFETY: null names no block.
    unsafe { heap.dealloc(std::ptr::null_mut(), layout(8, 8)) };
    assert_eq!(heap.validate().expect("sound").live_objects, 0);
}

/// Uses some 250 MiB, in blocks of all kinds, and drops the heap with all of them live. Returns what was resident at
/// the most.
fn use_and_drop() -> usize {
    let heap = new_heap();
    let mut most = 0;
    for _ in 0..20_000 {
        Block::new(&heap, layout(700, 8), 1).expect("memory");
    }
    for pages in 1..300 {
        Block::new(&heap, layout(pages << 12, 8), 1).expect("memory");
        most = most.max(memory().1);
    }
    Block::new(&heap, layout(50 << 20, 8), 1).expect("memory");
    assert!(!heap.alloc_pages(12, Migratetype::Movable).is_null());
    most = most.max(memory().1);
    heap.validate().expect("sound");
    drop(heap);
    most
}

#[test]
fn dropping_returns_all_memory() {
    if !alone("dropping_returns_all_memory") {
        return;
    }
    // The first round makes what stays: the process's own cache and tables, struct pages of the sections used.
    use_and_drop();
    let (mapped, resident) = memory();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
    for _ in 0..10 {
        assert!(use_and_drop() > resident + (200 << 20), "the test uses what it means to");
    }
    let (mapped_now, resident_now) = memory();
    let maps_now = std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
    // Another section may have come to be used: 2 MiB of struct pages, of which a part is touched.
    assert!(mapped_now <= mapped + (6 << 20), "{mapped} bytes mapped before, {mapped_now} after");
    assert!(resident_now <= resident + (6 << 20), "{resident} bytes resident before, {resident_now} after");
    assert!(maps_now <= maps + 4, "{maps} mappings before, {maps_now} after");
}

#[test]
fn a_thousand_heaps_and_no_more() {
    if !alone("a_thousand_heaps_and_no_more") {
        return;
    }
    let mut heaps: Vec<_> = (0..1022).map(|number| (number, new_heap())).collect();
    assert!(Instance::new(Config::new()).is_none(), "1022 exist");
    for (number, heap) in heaps.iter().filter(|(number, _)| number % 50 == 0) {
        Block::new(heap, layout(1000, 8), *number as u8).expect("memory").free(heap);
        heap.validate().expect("sound");
    }
    heaps.remove(500);
    let again = new_heap();
    Block::new(&again, layout(1000, 8), 1).expect("memory").free(&again);
    assert!(Instance::new(Config::new()).is_none(), "1022 exist again");
    drop(heaps);
    new_heap().validate().expect("sound");
}

#[test]
fn an_object_is_no_block_of_pages() {
    const CHILD: &str = "PCPMALLOC_TEST_OBJECT_AS_PAGES";
    if std::env::var_os(CHILD).is_some() {
        let heap = new_heap();
        let object = heap.alloc(layout(16 << 10, 8));
        println!("object at {:#x}", object.addr());
        // SAFETY: none. The object is no block of pages, which the heap must notice.
        unsafe { heap.free_pages(object, 2) };
        return;
    }
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args(["an_object_is_no_block_of_pages", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("a test binary starts again");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let address = out.split("object at ").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert_eq!(output.status.signal(), Some(6), "{out}{err}");
    assert!(
        err.contains(&format!("pcpmalloc: free of an interior pointer at {}", address.expect("an address"))),
        "{err}"
    );
}
