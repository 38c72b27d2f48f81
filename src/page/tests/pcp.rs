//! Page lists of threads: counts and bounds, refill and spill, and order 9's own budget.
#![forbid(unsafe_code)]

use super::*;
use crate::page::zone::MAX_HUGE_ON_LISTS;

const PLAIN: Config = Config { hugepages: Hugepages::Off, slack: 1 << 40, ..Config::new() };

/// A zone of one arena of so many pageblocks, whose knobs are given.
pub(super) fn home(pageblocks: usize, batch: u32, high: u32) -> Home {
    let home = Home::with(&Config { pcp_batch: batch, pcp_high: high, ..PLAIN });
    home.grow(pageblocks);
    home
}

fn take(home: &Home, pcp: &mut Pcp, order: u32) -> Option<FreeBlock> {
    let block = home.pages(pcp).alloc_pages(Order::new(order), MOVABLE)?;
    enter_run(block.pfn(), block.pages(), home.zone.id);
    Some(block)
}

/// Takes a block for good.
fn spend(home: &Home, pcp: &mut Pcp, order: u32) {
    let _ = take(home, pcp, order).unwrap();
}

pub(super) fn put(home: &Home, pcp: &mut Pcp, block: FreeBlock) {
    MemMap.page(block.pfn()).set_word(Word::NOTHING);
    home.pages(pcp).free_pages(block);
}

/// Counts, and that they are those of the lists and of the pages.
pub(super) fn check(home: &Home, pcp: &Pcp) -> (u32, u32, u32) {
    assert!(pcp.is_sound());
    assert_eq!(home.census().pcp, pcp.pages());
    pcp.counts()
}

/// Lists whose `high` has grown to `high`, with nothing on them.
fn grown(home: &Home, high: u32) -> Pcp {
    let mut pcp = Pcp::new();
    let mut held = Vec::new();
    while pcp.counts().1 < high || pcp.counts().0 > 0 {
        held.push(take(home, &mut pcp, 0).unwrap().pfn());
    }
    held.into_iter().for_each(|start| home.free(start));
    assert_eq!(check(home, &pcp), (0, high, 0));
    pcp
}

#[test]
fn a_new_thread_starts_with_no_room_and_grows_on_a_miss() {
    let home = home(4, 15, 0);
    let (mut pcp, lock) = (Pcp::new(), home.zone.events().lock);
    assert_eq!(check(&home, &pcp), (0, 0, 0));
    let first = take(&home, &mut pcp, 0).unwrap();
    assert_eq!(check(&home, &pcp), (7, 8, 0));
    // The rest of the batch comes without the lock, in the order of addresses.
    let mut last = first.pfn();
    for _ in 0..7 {
        let next = take(&home, &mut pcp, 0).unwrap();
        assert_eq!(next.pfn(), last.add(1));
        last = next.pfn();
    }
    assert_eq!((home.zone.events().lock - lock, check(&home, &pcp)), (1, (0, 8, 0)));
    spend(&home, &mut pcp, 0);
    assert_eq!(check(&home, &pcp), (14, 15, 0));
    // A thread without lists goes straight to the zone.
    let lock = home.zone.events().lock;
    let block = home.bare().alloc_pages(Order::ZERO, MOVABLE).unwrap();
    home.bare().free_pages(block);
    assert_eq!(home.zone.events().lock - lock, 2);
}

#[test]
fn a_refill_takes_a_batch_of_pages_and_two_blocks_at_least() {
    for (order, blocks) in [(0, 63), (1, 31), (2, 15), (3, 7)] {
        let home = home(8, 63, 400);
        let mut pcp = grown(&home, 400);
        let lock = home.zone.events().lock;
        spend(&home, &mut pcp, order);
        assert_eq!(check(&home, &pcp).0, (blocks - 1) << order);
        assert_eq!(home.zone.events().lock - lock, 1);
    }
    let home = home(8, 3, 400);
    let mut pcp = grown(&home, 400);
    spend(&home, &mut pcp, 3);
    assert_eq!(check(&home, &pcp).0, 8);
}

#[test]
fn a_refill_minds_how_full_the_other_lists_are() {
    let home = home(8, 63, 60);
    let mut pcp = grown(&home, 60);
    spend(&home, &mut pcp, 0);
    assert_eq!(check(&home, &pcp).0, 59);
    // There is room for one page, so for no block of order 3 beside the one that is wanted.
    spend(&home, &mut pcp, 3);
    assert_eq!(check(&home, &pcp).0, 59);
    for _ in 0..20 {
        spend(&home, &mut pcp, 0);
    }
    spend(&home, &mut pcp, 3);
    assert_eq!(check(&home, &pcp).0, 39 + 8);
}

#[test]
fn a_spill_goes_round_the_lists_from_the_one_that_overflowed_and_takes_the_coldest() {
    let home = home(4, 8, 20);
    let mut pcp = grown(&home, 20);
    let (pairs, singles): (Vec<_>, Vec<_>) =
        ((0..4).map(|_| home.take(2)).collect(), (0..13).map(|_| home.take(1)).collect());
    let spill = |pcp: &Pcp| pcp.events.spill;
    for (number, start) in pairs.iter().chain(&singles).enumerate() {
        let order = Order::new(u32::from(number < 4));
        put(&home, &mut pcp, FreeBlock::from_parts(*start, order, false));
        assert_eq!(spill(&pcp), u64::from(number == 16));
    }
    // 21 pages are one too many. With the batch that is 9, of each list in turn: 1 + 2 + 1 + 2 + 1 + 2.
    assert_eq!(check(&home, &pcp).0, 12);
    let kept = |start: &&Pfn| MemMap.page(**start).word().kind() == Kind::Pcp;
    assert_eq!(pairs.iter().filter(kept).collect::<Vec<_>>(), [&pairs[3]]);
    assert_eq!(singles.iter().filter(kept).collect::<Vec<_>>(), singles[3..].iter().collect::<Vec<_>>());
}

#[test]
fn a_drain_returns_everything() {
    let home = home(8, 15, 0);
    let mut pcp = Pcp::new();
    let held: Vec<_> = (0..200)
        .map(|n| take(&home, &mut pcp, [0, 1, 2, 3, 9][n % 5 * usize::from(n < 20)]).unwrap())
        .collect();
    held.into_iter().for_each(|block| put(&home, &mut pcp, block));
    let (count, high, huge) = check(&home, &pcp);
    assert!(count > 0 && high > 0 && huge == 2);
    let paid = high as isize * PAGE_SIZE as isize + 2 * PAGEBLOCK_SIZE as isize;
    assert_eq!(home.budget.left(), (1 << 30) - paid);
    let lock = home.zone.events().lock;
    pcp.drain(&home.zone, &home.budget);
    // A batch of pages to a hold of the lock.
    let holds = home.zone.events().lock - lock;
    assert!((u64::from(count / 15)..=u64::from(count / 8 + 4)).contains(&holds));
    assert_eq!((check(&home, &pcp), home.budget.left()), ((0, 0, 0), 1 << 30));
    assert_eq!((home.census().free, home.zone.mapped_pages()), (8 * 512, 8 * 512));
    assert_eq!(home.zone.huge_on_lists.load(Ordering::Relaxed), 0);
}

#[test]
fn high_follows_demand_and_decays_for_a_thread_that_only_frees() {
    let home = home(12, 15, 0);
    let mut pcp = Pcp::new();
    let held: Vec<_> = (0..5000).map(|_| take(&home, &mut pcp, 0).unwrap()).collect();
    assert_eq!(check(&home, &pcp).1, 32 * 15);
    let mut highest = 0;
    for (number, block) in held.into_iter().enumerate() {
        put(&home, &mut pcp, block);
        let (count, high, _) = pcp.counts();
        assert!(count <= high);
        highest = if number > 2500 { highest.max(count) } else { 0 };
    }
    assert_eq!(check(&home, &pcp).1, 15);
    assert!(highest <= 15 && home.budget.left() == (1 << 30) - 15 * PAGE_SIZE as isize);
    // A thread that never asks for anything gets that far and no further.
    let mut pcp = Pcp::new();
    let held: Vec<_> = (0..500).map(|_| home.take(1)).collect();
    for start in held {
        put(&home, &mut pcp, FreeBlock::from_parts(start, Order::ZERO, false));
        assert!(pcp.counts().0 <= pcp.counts().1 && pcp.counts().1 <= 15);
    }
}

#[test]
fn a_fixed_high_is_kept_to_whatever_the_knobs_say() {
    for (batch, high) in [(15, 7), (1, 1), (63, 1000), (u32::MAX, u32::MAX), (u32::MAX, 0), (5, u32::MAX)] {
        let home = home(8, batch, high);
        let mut pcp = Pcp::new();
        let held: Vec<_> = (0..1500).map(|_| take(&home, &mut pcp, 0).unwrap()).collect();
        for block in held {
            put(&home, &mut pcp, block);
            let counts = pcp.counts();
            assert!(counts.0 <= counts.1 && (high == 0 || counts.1 <= high));
        }
        check(&home, &pcp);
        pcp.drain(&home.zone, &home.budget);
        assert_eq!((home.census().free, home.budget.left()), (home.zone.mapped_pages(), 1 << 30));
    }
}

#[test]
fn without_budget_the_lists_stay_empty_and_everything_works() {
    let mut home = home(4, 15, 0);
    for budget in [0, 10 * PAGE_SIZE as isize] {
        home.budget = Budget::new(budget);
        let mut pcp = Pcp::new();
        let held: Vec<_> = (0..100).map(|_| take(&home, &mut pcp, 0).unwrap()).collect();
        held.into_iter().for_each(|block| put(&home, &mut pcp, block));
        let (count, high, _) = check(&home, &pcp);
        assert!(count <= high && high as isize * PAGE_SIZE as isize + home.budget.left() == budget);
        assert!(home.budget.left() >= 0);
        pcp.drain(&home.zone, &home.budget);
    }
}

#[test]
fn high_orders_can_be_kept_off_the_lists_at_any_time() {
    let home = home(8, 15, 0);
    let mut pcp = Pcp::new();
    let mut held: Vec<_> = [1, 2, 3, 9].map(|order| take(&home, &mut pcp, order).unwrap()).into();
    held.drain(2..).for_each(|block| put(&home, &mut pcp, block));
    let before = check(&home, &pcp);
    assert!(before.0 > 0 && before.2 > 0);
    home.zone.high_orders.store(false, Ordering::Relaxed);
    let lock = home.zone.events().lock;
    held.extend([1, 2, 3, 9].map(|order| take(&home, &mut pcp, order).unwrap()));
    let taken = held.len() as u64;
    held.drain(..).for_each(|block| put(&home, &mut pcp, block));
    assert_eq!((home.zone.events().lock - lock, check(&home, &pcp)), (4 + taken, before));
    // Order 0 stays, and what was on the lists goes with the next drain.
    let block = take(&home, &mut pcp, 0).unwrap();
    assert!(check(&home, &pcp).0 > before.0);
    put(&home, &mut pcp, block);
    pcp.drain(&home.zone, &home.budget);
    assert_eq!((check(&home, &pcp), home.census().free), ((0, 0, 0), 8 * 512));
}

#[test]
fn order_9_has_a_budget_of_its_own() {
    let home = home(1, 15, 0);
    let mut threads: Vec<_> = (0..40).map(|_| Pcp::new()).collect();
    let held: Vec<Vec<_>> =
        threads.iter_mut().map(|pcp| (0..3).map(|_| take(&home, pcp, 9).unwrap()).collect()).collect();
    // One to use and one to keep, for each that had to ask: the third block came from the zone, with a fourth.
    assert!(threads.iter().all(|pcp| pcp.counts() == (0, 0, 1) || pcp.counts() == (0, 0, 0)));
    for (pcp, held) in threads.iter_mut().zip(held) {
        for block in held {
            put(&home, pcp, block);
            assert!(pcp.counts().2 <= 2);
        }
    }
    let kept: u32 = threads.iter().map(|pcp| pcp.counts().2).sum();
    assert_eq!((kept as isize, home.zone.huge_on_lists.load(Ordering::Relaxed)), (MAX_HUGE_ON_LISTS, 64));
    assert_eq!(home.census().pcp, 64 * 512);
    threads.iter_mut().for_each(|pcp| pcp.drain(&home.zone, &home.budget));
    assert_eq!((home.census().pcp, home.zone.huge_on_lists.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_grant_for_order_9_is_kept_until_the_lists_are_emptied() {
    let home = Home::with(&Config { limit: blocks(1), ..PLAIN });
    let mut pcp = Pcp::new();
    let block = take(&home, &mut pcp, 9).unwrap();
    assert!(take(&home, &mut pcp, 9).is_none());
    let granted = || home.zone.huge_on_lists.load(Ordering::Relaxed);
    assert_eq!((check(&home, &pcp), granted()), ((0, 0, 0), 1));
    put(&home, &mut pcp, block);
    assert_eq!((check(&home, &pcp), granted()), ((0, 0, 1), 1));
    pcp.drain(&home.zone, &home.budget);
    assert_eq!((check(&home, &pcp), granted()), ((0, 0, 0), 0));
}

#[test]
fn hugepages_can_go_alone() {
    let home = home(8, 15, 0);
    let mut pcp = Pcp::new();
    let held: Vec<_> = [0, 9, 1, 9].map(|order| take(&home, &mut pcp, order).unwrap()).into();
    held.into_iter().for_each(|block| put(&home, &mut pcp, block));
    let (count, high, huge) = check(&home, &pcp);
    assert!(count > 0 && huge == 2);
    pcp.drain_huge(&home.zone, &home.budget);
    assert_eq!(check(&home, &pcp), (count, high, 0));
    assert_eq!(home.zone.huge_on_lists.load(Ordering::Relaxed), 0);
    assert_eq!(home.budget.left(), (1 << 30) - high as isize * PAGE_SIZE as isize);
    pcp.drain(&home.zone, &home.budget);
}

#[test]
fn a_run_cut_from_a_listed_block_gives_its_rest_back() {
    let home = home(4, 15, 0);
    let mut pcp = Pcp::new();
    for pages in 1..=8 {
        let mut source = home.pages(&mut pcp);
        let run = source.alloc_run(pages, Order::ZERO, 0).unwrap();
        let grown = source.resize_run(run.start, pages + 1);
        assert_eq!(MemMap.page(run.start).run_pages(), pages + usize::from(grown));
        assert!(source.resize_run(run.start, 1));
        let census = home.census();
        assert_eq!((census.run, census.free + census.pcp), (1, 4 * 512 - 1));
        home.pages(&mut pcp).free_run(run.start);
        check(&home, &pcp);
    }
    assert!(home.pages(&mut pcp).alloc_run(0x1_0001, Order::ZERO, 0).is_none());
}

#[test]
fn frees_and_takes_meet_the_lock_once_a_batch() {
    for (order, most) in [(0, 63), (1, 31), (2, 15), (3, 7)] {
        let home = home(16, 63, 0);
        let (mut pcp, count) = (Pcp::new(), 4000 >> order);
        let lock = || home.zone.events().lock;
        let held: Vec<_> = (0..count).map(|_| take(&home, &mut pcp, order).unwrap()).collect();
        let taken = lock();
        // Growing to the first batch takes a few holds more.
        assert!(taken <= (count / most) as u64 + 6, "{taken} holds for {count} blocks of order {order}");
        let mut freer = Pcp::new();
        held.into_iter().for_each(|block| put(&home, &mut freer, block));
        let freed = lock() - taken;
        assert!(freed <= (count / most) as u64 + 6, "{freed} holds for {count} frees of order {order}");
    }
}

#[test]
fn pages_that_nobody_wants_do_not_starve_other_orders() {
    let home = home(16, 63, 0);
    let mut pcp = Pcp::new();
    let held: Vec<_> = (0..6000).map(|_| take(&home, &mut pcp, 0).unwrap()).collect();
    assert_eq!(check(&home, &pcp).1, 32 * 63);
    held.into_iter().take(2000).for_each(|block| put(&home, &mut pcp, block));
    let lock = home.zone.events().lock;
    let blocks: Vec<_> = (0..140).map(|_| take(&home, &mut pcp, 3).unwrap()).collect();
    // A hold for each refill of 7, and one for the pages that make room for it.
    let holds = home.zone.events().lock - lock;
    assert!(holds <= 2 * 140 / 7 + 2, "{holds}");
    drop(blocks);
}
