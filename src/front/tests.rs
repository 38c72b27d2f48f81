//! Tests of instances on machines with several memory nodes, which are made up: processor `cpu` is at node
//! `cpu % nodes`, and each thread says which one it runs on. The real machine has its say at the end.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::sync::mpsc;
use std::thread::scope;

use super::instance::Instance;
use super::validate::Usage;
use crate::base::config::{Config, Hugepages};
use crate::base::pfn::{Migratetype, PAGE_SIZE};
use crate::base::topology::{Topology, node_of};
use crate::page::section::{MemMap, page_of, pfn_of};
use crate::slab::size_class::{CLASSES, class_by_last};
use crate::sys::fault::{Call, arm};
use crate::sys::numa::{binds, nodes, run_on};
use crate::sys::sync::Ordering;

const MIB: usize = 1 << 20;

/// Blocks of each kind: objects that share slabs, with and without a record of bits; large objects; runs from the
/// page lists, from the zone, and of several pageblocks.
const SIZES: [usize; 9] = [8, 64, 1000, 8192, 20_000, 256 << 10, 300 << 10, 512 * PAGE_SIZE, 5 * MIB];

/// Settings for heaps whose memory comes from arenas alone.
pub(crate) fn config() -> Config {
    Config { hugepages: Hugepages::Off, ..Config::new() }
}

fn topology(nodes: usize) -> impl Fn(&mut Topology) {
    move |topology| {
        for node in 0..nodes {
            topology.add_node(node as u16);
            (node..64).step_by(nodes).for_each(|cpu| topology.put_cpu(cpu, node));
        }
    }
}

/// A heap on a machine with so many nodes.
pub(crate) fn with_nodes(nodes: usize, config: Config) -> Instance {
    let heap = Instance::new(config).expect("an instance");
    heap.state().set_topology(&topology(nodes));
    heap
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

/// A block that says to whom it belongs; null where memory is out.
pub(crate) fn alloc(heap: &Instance, size: usize) -> *mut u8 {
    let block = heap.alloc(layout(size));
    if !block.is_null() {
        // SAFETY: the block holds `size` bytes.
        unsafe { block.write_bytes(block.addr().wrapping_mul(0x9e37_79b9) as u8, size) };
    }
    block
}

/// Frees a block that `alloc` returned, after a look at its first and its last byte.
pub(crate) fn free(heap: &Instance, block: *mut u8, size: usize) {
    for at in [0, size - 1] {
        // SAFETY: the block holds `size` bytes.
        let byte = unsafe { block.wrapping_add(at).read() };
        assert_eq!(byte, block.addr().wrapping_mul(0x9e37_79b9) as u8);
    }
    // SAFETY: `alloc` returned the block with this layout, and it is freed once.
    unsafe { heap.dealloc(block, layout(size)) };
}

/// The node that an address is memory of, as its pageblock says, and as its page's word says where it has one.
fn node_at(block: *mut u8) -> usize {
    let node = node_of(MemMap.pageblock(pfn_of(block.addr()).expect("a page")).zone());
    let word = page_of(block.addr()).expect("a page").word();
    assert!(word.zone() == 0 || node_of(word.zone()) == node);
    node
}

fn sound(heap: &Instance) -> Usage {
    heap.validate().unwrap_or_else(|violation| panic!("{violation}"))
}

/// Objects of a size that wait in the barn of a node.
fn in_barn(heap: &Instance, node: usize, size: usize) -> usize {
    heap.state().slabs.of(node).caches[class_by_last(size - 1)].barn.lock().objects()
}

/// Nothing is in use, nothing is cached, and every page of every node is free.
fn assert_empty(heap: &Instance) {
    heap.trim();
    let usage = sound(heap);
    assert_eq!((usage.live_objects, usage.cached_objects, usage.dedicated), (0, 0, 0));
    assert_eq!(usage.pages.free, usage.pages.managed);
}

#[test]
fn memory_comes_from_the_node_of_the_thread_that_asks() {
    for nodes in [2, 4, 8] {
        let heap = with_nodes(nodes, config());
        for cpu in [0, 1, nodes - 1, nodes, 3 * nodes + 1, 0] {
            run_on(cpu);
            let blocks: Vec<_> = SIZES.iter().map(|size| (alloc(&heap, *size), *size)).collect();
            for (block, size) in &blocks {
                assert_eq!(node_at(*block), cpu % nodes, "{size} bytes on cpu {cpu} of {nodes} nodes");
            }
            let block = heap.alloc_pages(4, Migratetype::Movable);
            assert_eq!(node_at(block), cpu % nodes);
            // SAFETY: an order that was asked for, freed once.
            unsafe { heap.free_pages(block, 4) };
            sound(&heap);
            // So that the sheaves of this node serve no other.
            blocks.into_iter().for_each(|(block, size)| free(&heap, block, size));
            heap.trim();
        }
        assert_eq!(heap.state().zones.iter().count(), nodes);
        assert_empty(&heap);
    }
}

#[test]
fn threads_without_a_cache_are_served_by_their_node_too() {
    let heap = with_nodes(2, config());
    let state = heap.state();
    run_on(1);
    let block = state.alloc(None, layout(100)).expect("memory").as_ptr();
    assert_eq!(node_at(block), 1);
    run_on(0);
    // SAFETY: allocated above with this layout, freed once.
    unsafe { state.free(None, NonNull::new(block).expect("memory"), layout(100)) };
    assert_eq!(state.slabs.of(1).caches[class_by_last(99)].node.lock().slabs, 0);
    assert_empty(&heap);
}

#[test]
fn what_another_node_frees_goes_home() {
    let heap = with_nodes(2, config());
    // Node 0 has memory of its own beside it.
    run_on(0);
    let own: Vec<_> = SIZES.iter().map(|size| alloc(&heap, *size)).collect();
    for size in SIZES {
        let count = if size > MIB { 3 } else { (8 * MIB / size).clamp(20, 3000) };
        // What the thread has in its sheaves is node 0's, and comes first.
        heap.trim();
        run_on(1);
        let blocks: Vec<_> = (0..count).map(|_| alloc(&heap, size)).collect();
        assert!(blocks.iter().all(|block| node_at(*block) == 1));
        run_on(0);
        blocks.into_iter().for_each(|block| free(&heap, block, size));
        sound(&heap);
    }
    let used = |node: usize| heap.state().zones.of(node).buddy.lock().used_pages();
    heap.trim();
    assert_eq!(used(1), 0);
    SIZES.iter().zip(own).for_each(|(size, block)| free(&heap, block, *size));
    assert_empty(&heap);
}

#[test]
fn a_barn_holds_objects_of_its_node_only() {
    const SIZE: usize = 64;
    let heap = with_nodes(2, config());
    let sheaf = usize::from(CLASSES[class_by_last(SIZE - 1)].sheaf);
    let take = |cpu: usize, count: usize| -> Vec<_> {
        run_on(cpu);
        (0..count).map(|_| alloc(&heap, SIZE)).collect()
    };
    // Whole sheaves of node 1's, freed on node 0, feed threads of node 1.
    let far = take(1, 8 * sheaf);
    run_on(0);
    far.into_iter().for_each(|block| free(&heap, block, SIZE));
    assert!(in_barn(&heap, 1, SIZE) >= 2 * sheaf, "{}", in_barn(&heap, 1, SIZE));
    assert_eq!(in_barn(&heap, 0, SIZE), 0);
    sound(&heap);
    heap.trim();
    // Sheaves with objects of both go to no barn.
    let (near, far) = (take(0, 8 * sheaf), take(1, 8 * sheaf));
    run_on(0);
    near.into_iter().zip(far).for_each(|(near, far)| {
        free(&heap, near, SIZE);
        free(&heap, far, SIZE);
    });
    assert_eq!((in_barn(&heap, 0, SIZE), in_barn(&heap, 1, SIZE)), (0, 0));
    sound(&heap);
    assert_empty(&heap);
}

#[test]
fn page_lists_move_with_their_thread() {
    let heap = with_nodes(2, config());
    let listed = |node: usize| -> usize {
        let lists = heap.state().caches().map(|cache| cache.pcp.remote().expect("nobody is inside"));
        lists.filter(|pcp| pcp.node() == node).map(|pcp| pcp.pages()).sum()
    };
    for cpu in [0, 1, 0, 1] {
        run_on(cpu);
        let block = heap.alloc_pages(0, Migratetype::Movable);
        assert_eq!(node_at(block), cpu);
        assert!(listed(cpu) > 0 && listed(1 - cpu) == 0);
        sound(&heap);
        run_on(1 - cpu);
        // SAFETY: an order that was asked for, freed once, by a thread that meanwhile moved.
        unsafe { heap.free_pages(block, 0) };
        assert_eq!(listed(cpu), 0);
        sound(&heap);
    }
    assert_empty(&heap);
}

#[test]
fn other_nodes_serve_where_a_node_cannot_grow() {
    let heap = with_nodes(2, config());
    let misses = || heap.state().numa_misses.load(Ordering::Relaxed);
    // Node 0 has free memory, records and sheaves there are too, and node 1 has nothing yet.
    run_on(0);
    let blocks: Vec<_> = SIZES.iter().map(|size| (alloc(&heap, *size), *size)).collect();
    blocks.into_iter().for_each(|(block, size)| free(&heap, block, size));
    assert_eq!(misses(), 0);
    heap.trim();
    run_on(1);
    assert!(arm(Call::Map, 0, u64::MAX));
    for size in SIZES {
        let blocks: Vec<_> = (0..3).map(|_| alloc(&heap, size)).filter(|block| !block.is_null()).collect();
        assert!(!blocks.is_empty() && blocks.iter().all(|block| node_at(*block) == 0), "{size} bytes");
        sound(&heap);
        blocks.into_iter().for_each(|block| free(&heap, block, size));
    }
    let block = heap.alloc_pages(3, Migratetype::Movable);
    assert_eq!((node_at(block), misses() >= SIZES.len() as u32), (0, true));
    // SAFETY: an order that was asked for, freed once.
    unsafe { heap.free_pages(block, 3) };
    // Without memory anywhere the answer is null.
    assert!(alloc(&heap, 512 * MIB).is_null() && alloc(&heap, 20 * MIB).is_null());
    arm(Call::Map, 0, 0);
    let block = alloc(&heap, 1000);
    assert_eq!(node_at(block), 1);
    free(&heap, block, 1000);
    assert_empty(&heap);
}

#[test]
fn nodes_that_lack_memory_for_their_records_are_served_by_node_0() {
    // The records come from chunks of 256 KiB: the first mapping that fails is that of one.
    let heap = Instance::new(config()).expect("an instance");
    assert!(arm(Call::Map, 0, u64::MAX));
    heap.state().set_topology(&topology(4));
    arm(Call::Map, 0, 0);
    assert!(heap.state().zones.is_one());
    run_on(3);
    let block = alloc(&heap, 1000);
    assert_eq!(node_at(block), 0);
    free(&heap, block, 1000);
    // Then there is memory. A second topology changes nothing.
    heap.state().set_topology(&topology(4));
    heap.state().set_topology(&topology(8));
    assert_eq!(heap.state().zones.iter().count(), 4);
    heap.trim();
    let block = alloc(&heap, 1000);
    assert_eq!(node_at(block), 3);
    free(&heap, block, 1000);
    assert_empty(&heap);
}

#[test]
fn every_zone_has_the_knobs_of_the_heap() {
    let own =
        Config { pcp_batch: 17, pcp_high: 333, pcp_high_orders: false, group_by_mobility: false, ..config() };
    let heap = with_nodes(4, Config { slack: 32 * MIB, limit: 1 << 30, ..own });
    for zone in heap.state().zones.iter() {
        assert_eq!((zone.batch(), zone.fixed_high.load(Ordering::Relaxed)), (17, 333));
        assert!(!zone.high_orders.load(Ordering::Relaxed) && !zone.wants_hugepages());
        assert!(!zone.buddy.lock().group_by_mobility);
        assert_eq!(zone.slack_pages.load(Ordering::Relaxed) * PAGE_SIZE, 8 * MIB);
    }
    // A zone's part of a small slack is a pageblock at least, but not more than the whole.
    for (slack, part) in [(8 * MIB, 2 * MIB), (MIB, MIB), (0, 0)] {
        let heap = with_nodes(8, Config { slack, ..config() });
        assert!(
            heap.state()
                .zones
                .iter()
                .all(|zone| zone.slack_pages.load(Ordering::Relaxed) * PAGE_SIZE == part)
        );
    }
}

#[test]
fn the_limit_is_that_of_all_nodes() {
    const LIMIT: usize = 48 * MIB;
    for nodes in [2, 4] {
        let heap = with_nodes(nodes, Config { limit: LIMIT, ..config() });
        let parts = || heap.state().zones.iter().map(|zone| zone.limit_pages()).sum::<usize>();
        let used = || heap.state().zones.iter().map(|zone| zone.buddy.lock().used_pages()).sum::<usize>();
        for size in [MIB, 100 << 10, 1000] {
            let mut blocks = Vec::new();
            loop {
                run_on(blocks.len() % nodes);
                let block = alloc(&heap, size);
                if block.is_null() {
                    break;
                }
                blocks.push(block);
            }
            sound(&heap);
            assert!(used() * PAGE_SIZE <= LIMIT && parts() == LIMIT / PAGE_SIZE);
            // All of it can be had, but for what idle sheaves keep and what rounding costs.
            assert!(
                blocks.len() * size >= LIMIT / 4 * 3,
                "{} of {size} bytes on {nodes} nodes",
                blocks.len()
            );
            // One node may have it all, a mapping of its own too.
            run_on(0);
            blocks.into_iter().for_each(|block| free(&heap, block, size));
            heap.trim();
            for cpu in [1, 0] {
                run_on(cpu);
                let most = 40 * MIB;
                let block = heap.alloc(layout(most));
                assert!(!block.is_null() && alloc(&heap, 20 * MIB).is_null());
                // SAFETY: allocated with this layout, freed once.
                unsafe { heap.dealloc(block, layout(most)) };
                let runs: Vec<_> = (0..40).map(|_| alloc(&heap, MIB)).collect();
                assert!(runs.iter().all(|run| !run.is_null() && node_at(*run) == cpu));
                runs.into_iter().for_each(|run| free(&heap, run, MIB));
            }
        }
        assert_empty(&heap);
    }
}

/// Random allocations and frees; every third block is passed on to the next thread, which is on another node.
fn churn(
    heap: &Instance,
    cpu: usize,
    rounds: usize,
    from: &mpsc::Receiver<(usize, usize)>,
    to: &mpsc::Sender<(usize, usize)>,
) {
    let mut random = cpu as u64 + 1;
    let mut below = |end: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % end
    };
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for round in 0..rounds {
        // Now and then the thread moves.
        run_on(cpu + round / 1000);
        let size = match below(40) {
            0 => below(MIB) + 1,
            1..5 => below(40_000) + 1,
            _ => below(2000) + 1,
        };
        let block = alloc(heap, size);
        assert!(!block.is_null());
        let block = (block.expose_provenance(), size);
        if round % 3 == 0 {
            to.send(block).expect("somebody listens");
        } else {
            blocks.push(block);
        }
        blocks.extend(from.try_iter());
        while blocks.len() > 300 {
            let (block, size) = blocks.swap_remove(below(300));
            free(heap, core::ptr::with_exposed_provenance_mut(block), size);
        }
    }
    for (block, size) in blocks {
        free(heap, core::ptr::with_exposed_provenance_mut(block), size);
    }
}

#[test]
fn threads_on_several_nodes_pass_memory_around() {
    for nodes in [2, 4] {
        // The nodes come while the threads are at it.
        let heap = Instance::new(config()).expect("an instance");
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel()).unzip();
        let rest: Vec<_> = scope(|scope| {
            let threads: Vec<_> = receivers
                .into_iter()
                .enumerate()
                .map(|(cpu, from)| {
                    let (heap, to) = (&heap, senders[(cpu + 1) % 4].clone());
                    scope.spawn(move || {
                        churn(heap, cpu, 8000, &from, &to);
                        from
                    })
                })
                .collect();
            heap.state().set_topology(&topology(nodes));
            for _ in 0..20 {
                heap.trim();
            }
            let receivers: Vec<_> =
                threads.into_iter().map(|thread| thread.join().expect("a thread")).collect();
            receivers.iter().flat_map(mpsc::Receiver::try_iter).collect()
        });
        sound(&heap);
        run_on(0);
        for (block, size) in rest {
            free(&heap, core::ptr::with_exposed_provenance_mut(block), size);
        }
        assert!(heap.state().zones.iter().all(|zone| zone.events().grow > 0));
        assert_empty(&heap);
    }
}

#[test]
fn a_forks_child_has_all_nodes() {
    let heap = with_nodes(2, config());
    let blocks: Vec<_> = (0..2000)
        .map(|number| {
            run_on(number % 2);
            alloc(&heap, 100 + number % 2 * 1000)
        })
        .collect();
    // SAFETY: the child calls what works after a fork, the heap, and ends without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for (number, block) in blocks.iter().enumerate() {
            run_on(number / 2 % 2);
            free(&heap, *block, 100 + number % 2 * 1000);
            let block = alloc(&heap, 5000);
            free(&heap, block, 5000);
        }
        heap.trim();
        let fine = heap.validate().is_ok_and(|usage| usage.live_objects == 0);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if fine { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above and writes to a place of this thread.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    for (number, block) in blocks.into_iter().enumerate() {
        free(&heap, block, 100 + number % 2 * 1000);
    }
    assert_empty(&heap);
}

#[test]
fn the_real_machine_is_found_once_the_heap_is_large() {
    let mut real = 0;
    nodes(|_| real += 1);
    let heap = Instance::new(config()).expect("an instance");
    let before = binds();
    let blocks: Vec<_> = (0..3).map(|_| alloc(&heap, MIB)).collect();
    assert!(heap.state().zones.is_one(), "a small heap has asked for nodes");
    let more: Vec<_> = (0..30).map(|_| alloc(&heap, MIB)).collect();
    if real <= 1 {
        assert!(heap.state().zones.is_one() && heap.state().topology.get().is_none());
        assert_eq!(binds(), before, "one node, and yet memory was bound");
    } else if !crate::sys::numa::has_policy() {
        assert_eq!(heap.state().zones.iter().count(), real.min(8));
        assert!(binds() > before);
    }
    blocks.into_iter().chain(more).for_each(|block| free(&heap, block, MIB));
    assert_empty(&heap);
}

#[test]
fn arenas_are_bound_and_a_refusal_is_counted() {
    let heap = with_nodes(2, config());
    let before = binds();
    for cpu in [0, 1] {
        run_on(cpu);
        let block = alloc(&heap, MIB);
        free(&heap, block, MIB);
    }
    assert_eq!(binds() - before, 2);
    // This machine may have no node 1.
    let refused = |node: usize| heap.state().zones.of(node).bind_refused();
    let (far, mut known) = (refused(1), 0);
    nodes(|_| known += 1);
    assert!(known > 1 || far == 1);
    assert!(arm(Call::Numa, 0, u64::MAX));
    run_on(0);
    let blocks: Vec<_> = (0..3).map(|_| alloc(&heap, 20 * MIB)).collect();
    arm(Call::Numa, 0, 0);
    assert!(refused(0) >= 1 && blocks.iter().all(|block| node_at(*block) == 0));
    blocks.into_iter().for_each(|block| free(&heap, block, 20 * MIB));
    assert_empty(&heap);
}

#[test]
fn a_block_grows_where_caches_leave_no_room_under_the_limit() {
    const LIMIT: usize = 128 * MIB;
    let heap = Instance::new(Config { limit: LIMIT, ..config() }).expect("an instance");
    let big = heap.alloc(layout(100 * MIB));
    assert!(!big.is_null());
    // 16 MiB of small objects come and go: some stay in caches.
    for size in [64, 256, 1024, 4096, 16 << 10, 64 << 10] {
        let blocks: Vec<_> = (0..16 * MIB / size).map(|_| alloc(&heap, size)).collect();
        blocks.into_iter().for_each(|block| free(&heap, block, size));
    }
    let used = heap.state().zones.first.used_pages() * PAGE_SIZE;
    assert!(used > 100 * MIB);
    let wanted = LIMIT - 2 * MIB;
    println!("{} KiB in caches", (used - 100 * MIB) >> 10);
    // SAFETY: allocated above with this layout.
    let grown = unsafe { heap.realloc(big, layout(100 * MIB), wanted) };
    assert!(!grown.is_null(), "null, though emptying caches makes room");
    // SAFETY: as above.
    unsafe { heap.dealloc(grown, layout(wanted)) };
}
