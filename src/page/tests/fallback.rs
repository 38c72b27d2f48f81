//! Claim and steal: constructed situations, and exactly what must happen in each.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::Migratetype::{self, Movable, Reclaimable, Unmovable};
use crate::page::fallback::Mode;
use proptest::prelude::*;

/// Writes pages down as slabs of one page each: what is unlike anything movable.
fn enter_slabs(field: &Field, start: usize, pages: usize) {
    for index in start..start + pages {
        let word = Word::new(Kind::Slab, field.buddy.zone).with_class(5);
        MemMap.page(field.pfn(index)).set_word(word);
    }
}

/// A pageblock of this type in which only `free` is free, as slabs if `slabs`, else as one-page runs.
fn occupy(field: &mut Field, pageblock: usize, migratetype: Migratetype, free: &[Range<usize>], slabs: bool) {
    let first = pageblock * PAGEBLOCK_PAGES;
    let start = field.pfn(first);
    let block = field.buddy.take_block(start);
    assert_eq!(block.order(), Order::PAGEBLOCK);
    let block = field.buddy.leave_whole(block);
    field.buddy.count_taken(&block);
    MemMap.pageblock(start).set_migratetype(migratetype);
    for index in 0..PAGEBLOCK_PAGES {
        if slabs {
            enter_slabs(field, first + index, 1);
        } else {
            field.enter(first + index, 1);
        }
    }
    for range in free {
        (range.clone()).for_each(|index| field.leave(first + index));
        field.buddy.free_run(field.pfn(first + range.start), range.len(), false);
    }
    field.census();
}

/// Pageblocks that cannot merge: every second one of the section.
fn apart(pageblocks: usize) -> Field {
    Field::new(&(0..pageblocks).map(|index| 2 * index..2 * index + 1).collect::<Vec<_>>())
}

/// Takes a block, and says where, in which mode, and how many claims and steals it took.
fn take(field: &mut Field, order: u32, migratetype: Migratetype) -> (usize, Mode, u64, u64) {
    let before = field.buddy.events;
    let mut mode = Mode::Own;
    let block = field.buddy.take_from_any(Order::new(order), migratetype, &mut mode).unwrap();
    let after = field.buddy.events;
    field.enter(block.pfn().index(), block.pages());
    field.census();
    (block.pfn().index(), mode, after.claim - before.claim, after.steal - before.steal)
}

fn type_of(field: &Field, pageblock: usize) -> Migratetype {
    MemMap.pageblock(field.pfn(pageblock * PAGEBLOCK_PAGES)).migratetype()
}

#[test]
fn own_blocks_and_whole_pageblocks_come_first() {
    let mut field = apart(2);
    occupy(&mut field, 0, Unmovable, &[0..512], true);
    occupy(&mut field, 2, Unmovable, &[0..400], true);
    // The first one became whole again, and with that of no type.
    assert_eq!(type_of(&field, 0), Movable);
    assert_eq!(take(&mut field, 0, Reclaimable), (0, Mode::Own, 0, 0));
    assert_eq!((type_of(&field, 0), type_of(&field, 2)), (Reclaimable, Unmovable));
}

#[test]
fn a_pageblock_that_is_half_free_is_claimed() {
    let mut field = apart(1);
    occupy(&mut field, 0, Unmovable, &[256..512], true);
    assert_eq!(take(&mut field, 0, Movable), (256, Mode::Claim, 1, 0));
    assert_eq!(type_of(&field, 0), Movable);
    // All its blocks are own ones now.
    assert_eq!(take(&mut field, 3, Movable), (264, Mode::Own, 0, 0));
    assert!(field.buddy.areas.iter().take(9).all(|area| area.lists[Unmovable.index()].is_empty()));
}

#[test]
fn a_pageblock_with_one_page_less_is_stolen_from() {
    let mut field = apart(1);
    occupy(&mut field, 0, Unmovable, &[257..512], true);
    assert_eq!(take(&mut field, 0, Movable), (257, Mode::Steal, 0, 1));
    assert_eq!(type_of(&field, 0), Unmovable);
}

#[test]
fn pages_of_a_like_use_count_as_free() {
    let mut field = apart(1);
    // 216 free, 216 slabs, and 80 pages in runs, which are movable.
    occupy(&mut field, 0, Reclaimable, &[0..216], false);
    enter_slabs(&field, 296, 216);
    assert_eq!(take(&mut field, 0, Movable), (208, Mode::Claim, 1, 0));
    // For slabs: 215 free and 216 alike.
    assert_eq!(take(&mut field, 0, Unmovable).1, Mode::Claim);
    assert_eq!(type_of(&field, 0), Unmovable);
    // A run that is longer than its pageblock counts with what of it is here.
    let mut field = apart(1);
    occupy(&mut field, 0, Reclaimable, &[0..10], true);
    (10..512).for_each(|index| field.leave(index));
    field.enter(10, 245);
    enter_slabs(&field, 255, 257);
    assert_eq!(take(&mut field, 0, Movable).1, Mode::Steal);
    field.leave(10);
    enter_slabs(&field, 10, 20);
    field.enter(30, 482);
    assert_eq!(take(&mut field, 0, Movable).1, Mode::Claim);
}

#[test]
fn the_largest_block_is_claimed_first_and_passed_over_if_unfit() {
    let mut field = apart(3);
    // The largest block, 128 pages, stands in a pageblock that is too full; 64 and 32 in emptier ones.
    occupy(&mut field, 0, Unmovable, &[128..256], true);
    let fit = |order: usize| (0..512).step_by(2 << order).map(|at| at..at + (1 << order)).collect::<Vec<_>>();
    occupy(&mut field, 2, Reclaimable, &fit(5), true);
    occupy(&mut field, 4, Unmovable, &fit(6), true);
    let (at, mode, claims, steals) = take(&mut field, 2, Movable);
    assert_eq!((at / PAGEBLOCK_PAGES, mode, claims, steals), (4, Mode::Claim, 1, 0));
    assert_eq!((type_of(&field, 0), type_of(&field, 2)), (Unmovable, Reclaimable));
}

#[test]
fn the_smallest_block_is_stolen_and_its_rest_stays_with_its_type() {
    let mut field = apart(2);
    occupy(&mut field, 0, Unmovable, &[0..64, 100..101], true);
    occupy(&mut field, 2, Reclaimable, &[32..64], true);
    assert_eq!(take(&mut field, 0, Movable), (100, Mode::Steal, 0, 1));
    // Nothing smaller is left than 32 pages; Reclaimable comes before Unmovable.
    assert_eq!(take(&mut field, 1, Movable), (2 * 512 + 32, Mode::Steal, 0, 1));
    assert_eq!((type_of(&field, 0), type_of(&field, 2)), (Unmovable, Reclaimable));
    let lists = |order: usize| &field.buddy.areas[order].lists;
    for order in 1..5 {
        assert_eq!((lists(order)[Reclaimable.index()].len(), lists(order)[Movable.index()].len()), (1, 0));
    }
    // And no block of whole pageblocks comes from there.
    let whole = field.buddy.take_from_any(Order::PAGEBLOCK, Movable, &mut Mode::Own);
    assert!(whole.is_none() && field.buddy.take_from_any(Order::new(7), Movable, &mut Mode::Own).is_none());
}

#[test]
fn a_batch_that_steals_does_not_search_again() {
    let mut field = apart(2);
    occupy(&mut field, 0, Unmovable, &[0..100], true);
    occupy(&mut field, 2, Unmovable, &[], true);
    let mut mode = Mode::Own;
    let first = field.buddy.take_from_any(Order::ZERO, Movable, &mut mode).unwrap();
    assert_eq!((first.pfn().index() < 100, mode), (true, Mode::Steal));
    // Even what becomes claimable meanwhile is left alone until the batch is over.
    (1024..1536).for_each(|index| field.leave(index));
    field.buddy.free_run(field.pfn(1024), 511, false);
    let second = field.buddy.take_from_any(Order::ZERO, Movable, &mut mode).unwrap();
    assert_eq!((field.buddy.events.claim, field.buddy.events.steal, mode), (0, 2, Mode::Steal));
    let third = field.buddy.take_from_any(Order::ZERO, Movable, &mut Mode::Own).unwrap();
    assert_eq!((field.buddy.events.claim, field.buddy.events.steal), (1, 2));
    field.enter(1535, 1);
    for block in [first, second, third] {
        field.buddy.free(block);
    }
    assert_eq!(field.census().free, 100 + 511);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the types, every page is found, and none twice.
    #[test]
    fn no_page_is_lost_on_the_way(
        steps in prop::collection::vec((0..=4_u32, 0..3_u8, any::<bool>(), any::<usize>()), 50..400)
    ) {
        let mut field = Field::new(&[1..4]);
        let mut live: Vec<(usize, usize, bool)> = Vec::new();
        let mut mode = Mode::Own;
        for (order, migratetype, slab, which) in steps {
            // A batch is a run of steps of one mode; a new one starts every now and then.
            mode = if which % 4 == 0 { Mode::Own } else { mode };
            let migratetype = Migratetype::from_raw(migratetype);
            if let Some(block) = field.buddy.take_from_any(Order::new(order), migratetype, &mut mode) {
                let (start, pages) = (block.pfn().index(), block.pages());
                if slab { enter_slabs(&field, start, pages) } else { field.enter(start, pages) }
                live.push((start, pages, slab));
            }
            if which % 5 == 0 && !live.is_empty() {
                let (start, pages, slab) = live.swap_remove(which % live.len());
                let marked = if slab { pages } else { 1 };
                (start..start + marked).for_each(|index| field.leave(index));
                field.buddy.free_run(field.pfn(start), pages, false);
                mode = Mode::Own;
            }
        }
        field.census();
        for migratetype in [Unmovable, Movable, Reclaimable].into_iter().cycle() {
            match field.buddy.take_from_any(Order::ZERO, migratetype, &mut Mode::Own) {
                Some(block) => { field.enter(block.pfn().index(), 1); live.push((block.pfn().index(), 1, false)); }
                None => break,
            }
        }
        live.sort_unstable();
        let mut next = 512;
        for (start, pages, _) in live {
            prop_assert_eq!(start, next);
            next += pages;
        }
        prop_assert_eq!((next, field.census().free), (4 * 512, 0));
    }
}
