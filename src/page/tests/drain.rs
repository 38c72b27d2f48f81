//! Page lists under any pattern of use, and under others that drain them meanwhile.
#![forbid(unsafe_code)]

use super::pcp::{check, home, put};
use super::*;
use crate::base::pfn::Migratetype;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_whatever_is_taken_and_put(
        batch in prop_oneof![Just(0_u32), 1..80_u32],
        fixed in prop_oneof![Just(0_u32), 1..300_u32],
        steps in prop::collection::vec((0..10_u8, 0..5_usize, 0..3_u8, any::<usize>()), 1..600),
    ) {
        let home = home(6, batch, fixed);
        let mut pcp = Pcp::new();
        let mut held = Vec::new();
        for (number, (step, order, migratetype, which)) in steps.into_iter().enumerate() {
            let order = Order::new([0, 1, 2, 3, 9][order]);
            match step {
                0..5 => if let Some(block) = home.pages(&mut pcp).alloc_pages(order, Migratetype::from_raw(migratetype)) {
                    assert_eq!(block.order(), order);
                    enter_run(block.pfn(), block.pages(), home.zone.id);
                    held.push(block);
                },
                5..9 if !held.is_empty() => put(&home, &mut pcp, held.swap_remove(which % held.len())),
                9 if which % 8 == 0 => pcp.drain(&home.zone, &home.budget),
                9 if which % 8 == 1 => home.zone.high_orders.store(which % 3 > 0, Ordering::Relaxed),
                _ => {}
            }
            let (count, high, huge) = pcp.counts();
            prop_assert!(count <= high && huge <= 2);
            let granted = home.zone.huge_on_lists.load(Ordering::Relaxed);
            let paid = high as isize * PAGE_SIZE as isize + granted * PAGEBLOCK_SIZE as isize;
            prop_assert_eq!(home.budget.left() + paid, 1 << 30);
            if number % 32 == 0 {
                check(&home, &pcp);
                prop_assert!((huge as isize..=2).contains(&granted));
            }
        }
        held.into_iter().for_each(|block| put(&home, &mut pcp, block));
        check(&home, &pcp);
        pcp.drain(&home.zone, &home.budget);
        prop_assert_eq!(home.census().free, home.zone.mapped_pages());
    }
}

/// A thread that takes and frees until `done`, with its lists behind a bracket that others may enter.
fn work(home: &Home, lists: &Bracket<Pcp>, seed: usize, rounds: usize) {
    let (mut held, mut random, mut outside) = (Vec::new(), seed + 1, 0);
    for _ in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = random >> 33;
        let mut inside = enter_as_owner(lists);
        outside += usize::from(inside.is_none());
        let mut pages =
            PageAlloc { zone: &home.zone, zones: None, budget: &home.budget, pcp: inside.as_deref_mut() };
        if value % 2 == 0 && held.len() < 300 {
            let order = Order::new([0, 0, 0, 1, 2, 3, 9][value % 7]);
            let block = pages.alloc_pages(order, MOVABLE).unwrap();
            enter_run(block.pfn(), block.pages(), home.zone.id);
            stamp(block.pfn(), seed);
            held.push(block);
        } else if !held.is_empty() {
            let block: FreeBlock = held.swap_remove(value % held.len());
            assert_eq!(stamp_of(block.pfn()), seed);
            MemMap.page(block.pfn()).set_word(Word::NOTHING);
            pages.free_pages(block);
        }
    }
    for block in held {
        let mut inside = enter_as_owner(lists);
        MemMap.page(block.pfn()).set_word(Word::NOTHING);
        PageAlloc { zone: &home.zone, zones: None, budget: &home.budget, pcp: inside.as_deref_mut() }
            .free_pages(block);
    }
    // Whoever drained was in the way at times, and nothing was lost by it.
    assert!(outside < rounds);
}

#[test]
fn others_drain_while_the_owners_work() {
    let home = Home::with(&Config { hugepages: Hugepages::Off, slack: blocks(4), ..Config::new() });
    let lists: Vec<_> = (0..3).map(|_| Bracket::new(Pcp::new())).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let owners: Vec<_> = lists
            .iter()
            .enumerate()
            .map(|(seed, lists)| {
                let home = &home;
                scope.spawn(move || work(home, lists, seed, 20_000))
            })
            .collect();
        let (home, lists, done) = (&home, &lists, &done);
        let drainer = scope.spawn(move || {
            let mut drained = 0;
            while !done.load(Ordering::Relaxed) {
                for lists in lists {
                    if let Some(mut pcp) = lists.remote() {
                        assert!(pcp.is_sound());
                        pcp.drain(&home.zone, &home.budget);
                        drained += 1;
                    }
                }
                std::thread::yield_now();
            }
            drained
        });
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        done.store(true, Ordering::Relaxed);
        assert!(drainer.join().unwrap() > 0);
    });
    let mut left = 0;
    for lists in &lists {
        let pcp = lists.remote().unwrap();
        assert!(pcp.is_sound() && pcp.counts().0 <= pcp.counts().1);
        left += pcp.pages();
    }
    let census = home.census();
    assert_eq!((census.pcp, census.run, census.free + left), (left, 0, census.managed));
    lists.iter().for_each(|lists| lists.remote().unwrap().drain(&home.zone, &home.budget));
    assert_eq!((home.census().pcp, home.budget.left()), (0, 1 << 30));
    assert_eq!(home.zone.huge_on_lists.load(Ordering::Relaxed), 0);
}
