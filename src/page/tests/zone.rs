//! The zone: growth, one hold of the lock a batch, the limit, and giving back, with a system that refuses.

use super::*;
use crate::base::pfn::PAGE_SHIFT;
use crate::page::zone::add_sections;
use crate::sys::fault::{Call, arm, left};

/// A zone that gives back whatever is beyond this many pageblocks, or an eighth of what is in use.
fn with_slack(pageblocks: usize) -> Home {
    Home::with(&Config { hugepages: Hugepages::Off, slack: blocks(pageblocks), ..Config::new() })
}

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
fn excess_goes_back_to_half_of_the_slack_and_reads_zero() {
    let home = with_slack(8);
    home.grow(32);
    let run = home.take(32 * 512);
    dirty_pages(run, 32 * 512);
    home.free(run);
    assert_eq!((home.dirty(), home.zone.events().purge), (4, 28));
    assert_eq!(home.census().free, home.zone.mapped_pages());
    // What counts as zero is zero, and only the rest was kept.
    let mut zeroed = 0;
    for _ in 0..32 {
        let block = home.zone.take(Order::PAGEBLOCK, MOVABLE).unwrap();
        enter_run(block.pfn(), 512, home.zone.id);
        assert_eq!(block.zeroed(), reads_as_zero(block.pfn(), 512));
        zeroed += usize::from(block.zeroed());
    }
    assert_eq!((zeroed, home.zone.mapped_pages()), (28, 32 * 512));
}

#[test]
fn below_the_slack_nothing_goes_back() {
    let home = with_slack(8);
    let runs: Vec<_> = (0..16).map(|_| home.take(512)).collect();
    for (number, run) in runs.into_iter().enumerate() {
        let purged = home.zone.events().purge;
        home.free(run);
        let dirty = home.dirty();
        assert!(dirty <= 8);
        // One step above, and it goes down to the half, not to the brim.
        assert_eq!(home.zone.events().purge - purged, if [8, 13].contains(&number) { 5 } else { 0 });
    }
    // An eighth of what is in use may stay as well.
    let home = with_slack(0);
    home.grow(73);
    let (used, run) = (home.take(64 * 512), home.take(9 * 512));
    home.free(run);
    assert_eq!(home.dirty(), 4);
    home.free(used);
    assert_eq!((home.dirty(), home.zone.purge_all()), (0, 0));
}

#[test]
fn all_goes_back_when_asked_wherever_it_stands_in_its_block() {
    // Of one block of 64 MiB only one pageblock was used: the first of the upper half, the last, the first.
    for used in [16, 31, 0] {
        let home = with_slack(1 << 20);
        home.grow(96);
        let all: Vec<_> = (0..96).map(|_| home.zone.take(Order::PAGEBLOCK, MOVABLE).unwrap()).collect();
        let mut pfns: Vec<_> = all.iter().map(FreeBlock::pfn).collect();
        pfns.sort();
        let dirty = pfns[pfns.iter().position(|pfn| pfn.is_aligned(Order::new(14))).unwrap() + used];
        all.into_iter().for_each(|block| {
            let zeroed = block.pfn() != dirty;
            let mut buddy = home.zone.buddy.lock();
            buddy.free(FreeBlock::from_parts(block.pfn(), block.order(), zeroed));
        });
        assert_eq!((home.dirty(), home.zone.purge_all(), home.dirty()), (1, PAGEBLOCK_SIZE, 0));
        home.census();
    }
}

#[test]
fn a_refused_madvise_is_not_taken_for_zero_and_not_asked_again_at_once() {
    let home = with_slack(2);
    home.grow(17);
    let run = home.take(12 * 512);
    dirty_pages(run, 12 * 512);
    assert!(arm(Call::Advise, 0, 1));
    let (kept, freed) = (run, run.add(4 * 512));
    enter_run(kept, 4 * 512, home.zone.id);
    home.zone.free_run(freed, 8 * 512);
    assert_eq!((left(), home.zone.events().purge, home.dirty()), (0, 0, 8));
    assert_eq!(home.zone.events().purge_failed, home.zone.events().purge_failed.clamp(1, 8));
    home.census();
    // Twelve are fewer than twice eight: nobody asks. So nothing is zero.
    home.free(kept);
    assert_eq!((home.zone.events().purge, home.dirty()), (0, 12));
    let again = home.zone.take_run(12 * 512, Order::ZERO, MOVABLE).unwrap();
    assert!(!again.zeroed && MemMap.address(again.start) == MemMap.address(run));
    // Seventeen are more, and now the system takes them.
    let more = home.take(5 * 512);
    home.zone.free_run(again.start, 12 * 512);
    assert_eq!(home.dirty(), 12);
    home.free(more);
    assert_eq!((home.zone.events().purge, home.dirty()), (16, 1));
    home.census();
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
                // SAFETY: a mapping of its own starts there, and nobody uses it.
                unsafe { home.zone.unmap_dedicated(pfn_of(address.as_ptr().addr()).unwrap()) };
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
    add_sections(&mut buddy, pointer(start), blocks(5), false);
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
                        // SAFETY: the first bytes of a run that this thread just took.
                        unsafe { MemMap.address(start).cast::<usize>().write(seed) };
                        runs.push(start);
                    } else if !runs.is_empty() {
                        let start = runs.swap_remove(value % runs.len());
                        // SAFETY: a run of this thread's.
                        assert_eq!(unsafe { MemMap.address(start).cast::<usize>().read() }, seed);
                        home.free(start);
                    }
                }
                runs.into_iter().for_each(|run| home.free(run));
            });
        }
    });
    let census = home.census();
    assert_eq!((census.free, census.run), (census.managed, 0));
    assert!(home.dirty() <= 2);
    home.zone.purge_all();
    assert_eq!(home.dirty(), 0);
    home.census();
}
