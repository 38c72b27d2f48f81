//! Giving back free pages of pageblocks that are in use: which ones, what they are known as afterwards, and what
//! stays untouched.
#![forbid(unsafe_code)]

use super::*;
use crate::page::purge::Within;
use crate::sys::fault::{Call, arm, left};

/// Nothing is given back but by what the test does.
const SLACK: usize = 1 << 20;

/// A zone of four pageblocks, and the pages of one of them, written to and in use.
fn pageblock(backing: Backing) -> (Home, Pfn) {
    let home = with_slack(SLACK);
    home.grow_with(4, backing);
    let start = home.take(512);
    dirty_pages(start, 512);
    (home, start)
}

/// Frees those pages of a pageblock in use for which this holds.
fn free_where(home: &Home, start: Pfn, freed: impl Fn(usize) -> bool) {
    (0..512).for_each(|index| enter_run(start.add(index), 1, home.zone.id));
    (0..512).filter(|index| freed(*index)).for_each(|index| home.free(start.add(index)));
    home.census();
}

/// Gives back within pageblocks, recounts, and says how many pages went.
fn purge(home: &Home, within: Within) -> usize {
    let before = home.zone.events().purge_pages;
    let bytes = home.zone.purge_within(within);
    home.census();
    assert_eq!(home.zone.events().purge_pages - before, (bytes / PAGE_SIZE) as u64);
    bytes / PAGE_SIZE
}

fn backed(home: &Home) -> usize {
    home.zone.buddy.lock().backed_pages
}

/// Whether the pages in use still hold what `dirty_pages` wrote, and the free ones that count as zero are.
fn check_contents(home: &Home, start: Pfn, used: impl Fn(usize) -> bool) {
    for (first, pages, zeroed) in free_blocks(&home.zone.buddy.lock()) {
        assert!(!zeroed || first.section() != start.section() || reads_as_zero(first, pages));
    }
    for index in (0..512).filter(|index| used(*index)) {
        assert_eq!(stamp_of(start.add(index)) & 0xff, 0xa5, "page {index} in use");
    }
}

#[test]
fn blocks_of_64_kib_and_more_go_back_and_smaller_ones_stay() {
    let (home, start) = pageblock(Backing::Small);
    // A block each of orders 4, 6, 3, 1 and 0; of the 25 pages at 201 an order 4 at 208 too, and the rest in smaller ones.
    let freed = |index: usize| {
        [16..32, 64..128, 136..144, 150..152, 161..162, 201..226].iter().any(|range| range.contains(&index))
    };
    free_where(&home, start, freed);
    assert_eq!(backed(&home), 16 + 64 + 8 + 2 + 1 + 25);
    assert_eq!(purge(&home, Within::Worth), 16 + 64 + 16);
    assert_eq!(backed(&home), 8 + 2 + 1 + 9);
    check_contents(&home, start, |index| !freed(index));
    // Nothing is left that is worth it, and what went is known as zero.
    assert_eq!(purge(&home, Within::Worth), 0);
    let block = home.zone.take(Order::new(6), MOVABLE).unwrap();
    assert!(block.zeroed() && block.pfn() == start.add(64) && reads_as_zero(block.pfn(), 64));
    enter_run(block.pfn(), 64, home.zone.id);
    // Used again it counts again.
    dirty_pages(block.pfn(), 64);
    home.free(block.pfn());
    assert_eq!((backed(&home), purge(&home, Within::Worth), backed(&home)), (20 + 64, 64, 20));
    check_contents(&home, start, |index| !freed(index));
}

#[test]
fn where_seven_eighths_are_free_all_goes_back_by_many_batches() {
    // Every eighth page stays, so 448 are free, in 192 blocks of 1, 2 and 4 pages: three batches.
    let (home, start) = pageblock(Backing::Small);
    free_where(&home, start, |index| !index.is_multiple_of(8));
    assert_eq!((backed(&home), purge(&home, Within::Worth), backed(&home)), (448, 448, 0));
    check_contents(&home, start, |index| index.is_multiple_of(8));
    // One page more in use, and nothing is worth it; but asked for it goes.
    let (home, start) = pageblock(Backing::Small);
    let freed = |index: usize| !index.is_multiple_of(8) && index != 1;
    free_where(&home, start, freed);
    assert_eq!((backed(&home), purge(&home, Within::Worth), backed(&home)), (447, 0, 447));
    assert_eq!((purge(&home, Within::All), backed(&home)), (447, 0));
    check_contents(&home, start, |index| !freed(index));
}

#[test]
fn a_hugepage_is_split_where_three_quarters_are_free() {
    // Four single pages, and so many more at the end, of which a few are in blocks below 64 KiB.
    for (last, worth) in [(379, 0), (380, 368), (443, 432), (444, 448)] {
        let (home, start) = pageblock(Backing::Huge);
        let freed = |index: usize| index >= 512 - last || [1, 3, 5, 7].contains(&index);
        free_where(&home, start, freed);
        assert!(MemMap.pageblock(start).huge() && backed(&home) == last + 4);
        assert_eq!((last, purge(&home, Within::Worth)), (last, worth));
        assert_eq!((MemMap.pageblock(start).huge(), backed(&home)), (worth == 0, last + 4 - worth));
        check_contents(&home, start, |index| !freed(index));
    }
}

#[test]
fn all_that_is_free_goes_back_when_asked_but_for_hugepages_mostly_in_use() {
    for (backing, free, all) in [
        (Backing::Small, 1, 1),
        (Backing::Small, 300, 300),
        (Backing::Huge, 255, 0),
        (Backing::Huge, 256, 256),
        (Backing::Hugetlb, 256, 0),
    ] {
        let (home, start) = pageblock(backing);
        // Every second page first, so that there are many blocks.
        let freed = |index: usize| {
            index % 2 == 1 && index / 2 < free || index.is_multiple_of(2) && index / 2 + 256 < free
        };
        free_where(&home, start, freed);
        assert_eq!(home.census().free, 3 * 512 + free);
        assert_eq!((backing, free, purge(&home, Within::All)), (backing, free, all));
        check_contents(&home, start, |index| !freed(index));
    }
}

#[test]
fn what_nobody_touched_of_a_hugepage_in_use_goes_back_too() {
    let home = with_slack(SLACK);
    home.grow_with(4, Backing::Huge);
    let run = home.take(10);
    dirty_pages(run, 10);
    // The first touch backed all of it.
    assert_eq!((backed(&home), purge(&home, Within::Worth), backed(&home)), (502, 502, 0));
    // Wholly free again, and given back as a whole, it is what it was.
    home.free(run);
    assert_eq!((home.zone.purge_all(), home.dirty()), (PAGEBLOCK_SIZE, 0));
    assert!(MemMap.pageblock(run).huge());
    let again = home.take(1);
    assert_eq!((again, backed(&home)), (run, 511));
}

#[test]
fn whole_pageblocks_are_left_to_others() {
    let home = with_slack(SLACK);
    home.grow(4);
    let run = home.take(2 * 512);
    dirty_pages(run, 2 * 512);
    home.free(run);
    assert_eq!((home.dirty(), purge(&home, Within::All), home.dirty()), (2, 0, 2));
}

#[test]
fn a_refusal_leaves_what_is_free_backed_and_not_known_as_zero() {
    let (home, start) = pageblock(Backing::Huge);
    let freed = |index: usize| !index.is_multiple_of(8);
    free_where(&home, start, freed);
    // The first batch goes, the second one does not.
    assert!(arm(Call::Advise, 1, 1));
    let first = purge(&home, Within::Worth);
    assert_eq!((left(), home.zone.events().purge_failed), (0, 1));
    assert!((1..448).contains(&first) && backed(&home) == 448 - first, "{first} pages");
    check_contents(&home, start, |index| !freed(index));
    assert_eq!((purge(&home, Within::Worth), backed(&home)), (448 - first, 0));
    check_contents(&home, start, |index| !freed(index));
}

#[test]
fn others_take_and_free_while_it_happens() {
    let home = with_slack(SLACK);
    home.grow(8);
    let runs: Vec<_> = (0..8 * 64).map(|_| home.take(8)).collect();
    runs.iter().for_each(|run| dirty_pages(*run, 8));
    // Every other 32 KiB stays; between them four threads work, each on blocks with its own number.
    let (kept, freed): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.index() / 8 % 2 == 0);
    kept.iter().for_each(|run| stamp(*run, run.index()));
    freed.into_iter().for_each(|run| home.free(run));
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let home = &home;
            scope.spawn(move || {
                for round in 0..400 {
                    let run = home.zone.take_run(1 + round % 8, Order::ZERO, MOVABLE).expect("it is free");
                    enter_run(run.start, 1 + round % 8, home.zone.id);
                    assert!(!run.zeroed || reads_as_zero(run.start, 1 + round % 8));
                    stamp(run.start, number);
                    std::thread::yield_now();
                    assert_eq!(stamp_of(run.start), number);
                    home.free(run.start);
                }
            });
        }
        for _ in 0..40 {
            home.zone.purge_within(Within::All);
        }
    });
    kept.iter().for_each(|run| assert_eq!(stamp_of(*run), run.index()));
    purge(&home, Within::All);
    assert_eq!((backed(&home), home.census().run), (0, 8 * 256));
}
