//! The zone: growth, one hold of the lock a batch, the limit, and a system that refuses.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::PAGE_SHIFT;
use crate::page::zone::add_sections;
use crate::sys::fault::{Call, arm, left};

#[test]
fn a_zone_grows_by_an_eighth() {
    let home = Home::new();
    let mut before = 0;
    let mut taken = 0;
    for _ in 0..150 {
        let grown = home.zone.events().grow;
        home.take(PAGEBLOCK_PAGES);
        taken += 1;
        let mapped = home.zone.mapped_pages() / PAGEBLOCK_PAGES;
        if home.zone.events().grow > grown {
            assert_eq!(mapped - before, (before / 8).max(1));
        }
        assert!(mapped <= taken + (taken / 8).max(1));
        before = mapped;
    }
    let census = home.census();
    assert_eq!((census.run, census.managed), (150 * 512, before * 512));
    // A request for more than an eighth is mapped as it is.
    assert!(home.zone.take_run(40 * 512, Order::ZERO, MOVABLE).is_none_or(|run| run.zeroed));
    assert!(home.zone.mapped_pages() / 512 <= before + 40);
}

#[test]
fn only_what_is_needed_is_mapped_where_the_system_refuses_more() {
    let home = Home::new();
    home.grow(32);
    home.take(32 * 512);
    assert!(arm(Call::Map, 0, 1));
    home.take(1);
    assert_eq!((left(), home.zone.mapped_pages()), (0, 33 * 512));
    home.census();
}

#[test]
fn a_batch_takes_the_lock_once() {
    let home = with_slack(64);
    home.grow(4);
    let lock = || home.zone.events().lock;
    let before = lock();
    let mut batch = Vec::new();
    assert_eq!(home.zone.take_bulk(Order::ZERO, MOVABLE, 63, &mut |block| batch.push(block)), 63);
    assert_eq!(lock() - before, 1);
    let mut blocks = batch.into_iter();
    home.zone.free_bulk(63, &mut || blocks.next());
    assert_eq!(lock() - before, 2);
    let run = home.take(2000);
    home.free(run);
    assert_eq!(lock() - before, 4);
    // Larger ones are cut into holds of at most a batch of pages, and a block.
    let mut batch = Vec::new();
    home.zone.take_bulk(Order::new(3), MOVABLE, 16, &mut |block| batch.push(block));
    let before = lock();
    let mut blocks = batch.into_iter();
    home.zone.free_bulk(32, &mut || blocks.next());
    assert_eq!((lock() - before, home.census().free), (4, 4 * 512));
}

#[test]
fn a_bulk_take_that_runs_short_returns_what_there_is() {
    let home = Home::with(&Config { limit: blocks(1), hugepages: Hugepages::Off, ..Config::new() });
    let start = home.take(500);
    let mut batch = Vec::new();
    assert_eq!(home.zone.take_bulk(Order::ZERO, MOVABLE, 63, &mut |block| batch.push(block)), 12);
    assert_eq!(home.zone.take_bulk(Order::ZERO, MOVABLE, 63, &mut |_| unreachable!()), 0);
    assert!(home.zone.take_run(1, Order::ZERO, MOVABLE).is_none());
    assert!(home.zone.extend_run(start, 500, 1).is_none());
    assert_eq!(home.zone.map_dedicated(PAGE_SIZE, PAGE_SIZE), None);
    batch.drain(..1).for_each(|block| home.zone.free_run(block.pfn(), 1));
    assert!(home.zone.take(Order::new(1), MOVABLE).is_none());
    batch.push(home.zone.take(Order::ZERO, MOVABLE).unwrap());
    assert_eq!(home.zone.mapped_pages(), 512);
    batch.into_iter().for_each(|block| home.zone.free_run(block.pfn(), 1));
}

#[test]
fn every_refused_mapping_is_none_and_leaves_all_sound() {
    let mut failures = 0;
    for pass in 0..12 {
        let home = Home::new();
        let mut runs = Vec::new();
        assert!(arm(Call::Map, pass, 3));
        for pages in [1, 700, 3, 512, 5000, 40, 2048, 9] {
            match home.zone.take_run(pages, Order::ZERO, MOVABLE) {
                Some(run) => {
                    enter_run(run.start, pages, home.zone.id);
                    dirty_pages(run.start, pages);
                    runs.push(run.start);
                }
                None => failures += 1,
            }
            if let Some(address) = home.zone.map_dedicated(pages * PAGE_SIZE, PAGE_SIZE) {
                home.unmap(address);
            }
            home.census();
        }
        arm(Call::Map, 0, 0);
        runs.into_iter().for_each(|run| home.free(run));
        let census = home.census();
        assert_eq!((census.free, census.run), (census.managed, 0));
        assert_eq!(home.zone.buddy.lock().dedicated_pages, 0);
    }
    assert!(failures > 0);
}

#[test]
fn an_arena_across_two_sections_is_two() {
    // Addresses that only this test uses; nothing is mapped there.
    let (home, boundary) = (Home::new(), 0x2ff1_usize << SECTION_SHIFT);
    let pointer = |at: usize| NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(at)).unwrap();
    let start = boundary - blocks(2);
    assert!(cover(pointer(start), blocks(5)));
    let mut buddy = Buddy::new(home.zone.id);
    let arena = Arena { address: pointer(start), length: blocks(5), backing: Backing::Small };
    add_sections(&mut buddy, &arena);
    assert_eq!((buddy.managed_pages, buddy.free_pages), (5 * 512, 5 * 512));
    let free = free_blocks(&buddy).into_iter().map(|(pfn, pages, _)| (pfn.index(), pages));
    assert_eq!(free.collect::<Vec<_>>(), [(126 * 512, 1024), (0, 1024), (1024, 512)]);
    census(&buddy, &mut |_| Ok(())).unwrap();
    // No run crosses the boundary, though all five pageblocks are adjacent addresses.
    assert!(buddy.take_run(4 * 512, Order::ZERO, MOVABLE).is_none());
    let run = buddy.take_run(3 * 512, Order::ZERO, MOVABLE).unwrap();
    assert_eq!(MemMap.address(run.start).as_ptr().addr(), boundary);
    let below = buddy.take_run(2 * 512, Order::ZERO, MOVABLE).unwrap();
    assert!(buddy.extend_run(below.start, 2 * 512, 1).is_none());
    for pageblock in 0..5 {
        forget(pfn_of(start + (pageblock << (PAGE_SHIFT + 9))).unwrap());
    }
}

#[test]
fn an_empty_hugepage_pool_means_transparent_hugepages() {
    let home = Home::with(&Config { hugepages: Hugepages::Hugetlb, ..Config::new() });
    assert!(arm(Call::Map, 0, 1));
    let run = home.take(500);
    assert_eq!(left(), 0);
    assert!(home.zone.wants_hugepages() && reads_as_zero(run, 500));
    // It does not try again, nor say so again.
    assert!(arm(Call::Map, 0, 1));
    home.take(500);
    arm(Call::Map, 0, 0);
    let census = home.census();
    assert_eq!((census.run, census.managed), (1000, home.zone.mapped_pages()));
    assert!(!MemMap.pageblock(run).hugetlb());
}

#[test]
fn threads_that_take_and_free_leave_nothing_behind() {
    let home = with_slack(2);
    std::thread::scope(|scope| {
        for seed in 0..4_usize {
            let home = &home;
            scope.spawn(move || {
                let mut runs = Vec::new();
                let mut random = seed * 7919 + 1;
                for _ in 0..2000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = random >> 33;
                    if value % 3 > 0 && runs.len() < 20 {
                        let pages = 1 + value % if value % 16 == 1 { 3000 } else { 60 };
                        // An arena across two sections may be no room for it.
                        let Some(run) = home.zone.take_run(pages, Order::ZERO, MOVABLE) else { continue };
                        let start = run.start;
                        enter_run(start, pages, home.zone.id);
                        stamp(start, seed);
                        runs.push(start);
                    } else if !runs.is_empty() {
                        let start = runs.swap_remove(value % runs.len());
                        assert_eq!(stamp_of(start), seed);
                        home.free(start);
                    }
                }
                runs.into_iter().for_each(|run| home.free(run));
            });
        }
    });
    let census = home.census();
    assert_eq!((census.free, census.run), (census.managed, 0));
    // The slack, and at most eight times as much where purged memory was wanted again.
    assert!(home.dirty() <= 2 + 16);
    home.zone.purge_all();
    assert_eq!(home.dirty(), 0);
    home.census();
}

#[test]
fn batch_follows_the_zone_s_size() {
    let home = Home::new();
    home.grow(7);
    assert_eq!(home.zone.batch(), 15);
    home.grow(1);
    assert_eq!(home.zone.batch(), 63);
    let home = Home::with(&Config { pcp_batch: 31, ..Config::new() });
    home.grow(8);
    assert_eq!(home.zone.batch(), 31);
}
