//! Exact runs: what is taken, what goes back, and what stays known to be zero.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::PAGES_PER_SECTION;

/// Takes a run, writes it down, recounts, and says where it starts and whether it is zero.
fn take(field: &mut Field, pages: usize, align: u32) -> Option<(usize, bool)> {
    let run = field.buddy.take_run(pages, Order::new(align), MOVABLE)?;
    field.enter(run.start.index(), pages);
    assert_eq!(field.census().managed, field.census().free + field.census().run);
    Some((run.start.index(), run.zeroed))
}

fn taken(field: &mut Field, pages: usize) -> usize {
    take(field, pages, 0).unwrap().0
}

#[test]
fn a_run_takes_not_a_page_more() {
    for pages in (1..=40).chain([63, 64, 65, 255, 257, 300, 511, 512]) {
        let mut field = Field::new(&[2..4]);
        let start = taken(&mut field, pages);
        assert_eq!(field.census().free, 1024 - pages);
        field.free(start, pages);
        assert_eq!(field.free_blocks(), [(1024, 1024, false)]);
    }
}

#[test]
fn a_run_above_a_pageblock_needs_no_power_of_two() {
    // Pageblocks 1 and 2 make no block of order 10, and 1 to 7 none of order 12.
    for (pages, tail) in [(513, 511), (1000, 24), (1024, 0), (1025, 511), (7 * 512 - 5, 5), (7 * 512, 0)] {
        let mut field = Field::new(&[1..8]);
        // Larger blocks would serve the smaller ones, so only what is needed is there.
        let blocking = 7 - usize::div_ceil(pages, 512);
        for at in (0..blocking).rev() {
            let first = field.pfn((7 - at) * 512);
            let whole = field.buddy.whole_block_of(first).map(|_| field.buddy.carve(first, 1));
            assert_eq!(whole, Some(true));
            field.enter(first.index(), 512);
        }
        assert_eq!(take(&mut field, pages, 0), Some((512, true)));
        assert_eq!((field.census().free, field.buddy.dirty_pageblocks), (tail, 0));
        assert!(field.free_blocks().into_iter().all(|(start, _, zeroed)| zeroed && start >= 512 + pages));
        field.free(512, pages);
        assert_eq!(field.census().free, 512 * (7 - blocking));
    }
}

#[test]
fn runs_reach_over_arenas_and_to_the_end_of_the_section() {
    let mut field = Field::new(&[]);
    for pageblock in [127, 125, 126] {
        field.add(pageblock..pageblock + 1, Backing::Small);
    }
    assert_eq!(take(&mut field, 3 * 512, 0), Some((125 * 512, true)));
    assert_eq!(field.buddy.extend_run(field.pfn(125 * 512), 3 * 512, 1), None);
    field.free(125 * 512, 3 * 512);
    assert_eq!(take(&mut field, 1025, 0), Some((125 * 512, false)));
    assert_eq!(field.buddy.extend_run(field.pfn(125 * 512), 1025, 511), Some(false));
    field.enter(125 * 512, 3 * 512);
    assert_eq!(field.census().free, 0);
    field.free(125 * 512, 3 * 512);
    let blocks: Vec<_> = field.free_blocks().into_iter().map(|(start, pages, _)| (start, pages)).collect();
    assert_eq!(blocks, maximal(125..128));
}

#[test]
fn a_run_can_be_a_whole_section_and_no_more() {
    let mut field = Field::new(&[0..PAGEBLOCKS_PER_SECTION]);
    assert_eq!(take(&mut field, PAGES_PER_SECTION, 0), Some((0, true)));
    assert_eq!(field.buddy.extend_run(field.pfn(0), PAGES_PER_SECTION, 1), None);
    field.free(0, PAGES_PER_SECTION);
    assert_eq!(take(&mut field, PAGES_PER_SECTION - 1, 0), Some((0, false)));
    assert_eq!(field.free_blocks(), [(PAGES_PER_SECTION - 1, 1, false)]);
}

#[test]
fn what_is_missing_by_a_page_is_not_found() {
    let mut field = Field::new(&[1..4]);
    assert_eq!(take(&mut field, 3 * 512 + 1, 0), None);
    let page = taken(&mut field, 1);
    // Now one pageblock is not whole, and of the others two or one are adjacent.
    let adjacent = if page / 512 == 2 { 1 } else { 2 };
    assert_eq!(take(&mut field, adjacent * 512 + 1, 0), None);
    assert_eq!(field.census().free, 3 * 512 - 1);
    assert!(take(&mut field, adjacent * 512, 0).is_some());
}

#[test]
fn alignment_is_that_of_the_order_asked_for() {
    for align in 0..=9 {
        let mut field = Field::new(&[1..8]);
        for pages in [1, 3, 100, 700] {
            let (start, _) = take(&mut field, pages, align).unwrap();
            assert!(start.is_multiple_of(1 << align));
        }
    }
}

#[test]
fn what_is_cut_off_stays_as_clean_as_it_is() {
    // Pageblock 0 is dirty, 1 to 3 are clean, all four one block.
    let mut field = Field::new(&[0..4]);
    let used = taken(&mut field, 512);
    field.free(used, 512);
    assert_eq!((used, field.free_blocks()), (0, vec![(0, 2048, false)]));
    let run = take(&mut field, 700, 0).unwrap();
    assert_eq!(run, (0, false));
    assert!(field.free_blocks().into_iter().all(|(_, _, zeroed)| zeroed));
    // The same from an adjacent run, which no block serves as a whole.
    let mut field = Field::new(&[1..4]);
    let used = field.buddy.carve(field.pfn(512), 1);
    field.enter(512, 512);
    field.free(512, 512);
    assert_eq!((used, field.buddy.dirty_pageblocks), (true, 1));
    assert_eq!(take(&mut field, 1200, 0), Some((512, false)));
    assert!(field.free_blocks().into_iter().all(|(_, _, zeroed)| zeroed));
}

#[test]
fn a_run_grows_into_what_follows_and_nowhere_else() {
    let mut field = Field::new(&[0..4]);
    let start = taken(&mut field, 3);
    assert_eq!(start, 0);
    assert_eq!(field.buddy.extend_run(field.pfn(0), 3, 1), Some(true));
    field.enter(0, 4);
    assert_eq!(field.census().free, 2044);
    // Over the rest of the pageblock and one and a half more.
    assert_eq!(field.buddy.extend_run(field.pfn(0), 4, 1276), Some(true));
    field.enter(0, 1280);
    assert_eq!(field.census().free, 768);
    // Something stands in the way: nothing changes.
    let blocks = field.free_blocks();
    assert_eq!(field.buddy.extend_run(field.pfn(0), 1280, 769), None);
    assert_eq!(field.free_blocks(), blocks);
    assert_eq!(field.buddy.extend_run(field.pfn(0), 1280, 768), Some(true));
    field.enter(0, 2048);
    assert_eq!((field.census().free, field.buddy.dirty_pageblocks), (0, 0));
}

#[test]
fn growing_leaves_the_rest_as_clean_as_it_is() {
    let mut field = Field::new(&[0..8]);
    let first = taken(&mut field, 512);
    assert_eq!(field.buddy.extend_run(field.pfn(first), 512, 512 * 7), Some(true));
    field.enter(0, 8 * 512);
    // 4 is dirty now, 5 to 7 are clean; the four merge.
    field.buddy.free_run(field.pfn(4 * 512), 512, false);
    field.buddy.free_run(field.pfn(5 * 512), 3 * 512, true);
    field.enter(0, 4 * 512);
    assert_eq!((field.free_blocks(), field.buddy.dirty_pageblocks), (vec![(2048, 2048, false)], 1));
    assert_eq!(field.buddy.extend_run(field.pfn(0), 2048, 512 + 3), Some(false));
    field.enter(0, 2048 + 515);
    assert_eq!((field.census().free, field.buddy.dirty_pageblocks), (2048 - 515, 0));
    assert!(field.free_blocks().into_iter().all(|(_, _, zeroed)| zeroed));
}

#[test]
fn any_part_of_a_run_can_go_back_alone() {
    let mut field = Field::new(&[0..4]);
    let start = taken(&mut field, 2000);
    assert_eq!(start, 0);
    // Middle, end and start, none of them aligned to anything.
    for (from, pages) in [(501, 1033), (1777, 223), (0, 7)] {
        field.buddy.free_run(field.pfn(from), pages, false);
    }
    field.enter(7, 494);
    field.enter(1534, 243);
    assert_eq!(field.census().run, 494 + 243);
    field.free(7, 494);
    field.free(1534, 243);
    assert_eq!(field.free_blocks(), [(0, 2048, false)]);
}
