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

/// Of a field whose other pageblocks are wholly free: free pages within pageblocks in use, and all pages of those.
fn holes(field: &Field) -> (usize, usize) {
    let pageblocks = (0..PAGEBLOCKS_PER_SECTION).map(|index| MemMap.pageblock(field.pfn(index * 512)));
    let in_use =
        pageblocks.filter(|pageblock| pageblock.zone() == field.buddy.zone && pageblock.free() < 512);
    in_use.fold((0, 0), |(free, all), pageblock| (free + pageblock.free(), all + 512))
}

#[test]
fn runs_of_uneven_sizes_stand_without_holes() {
    const SIZES: [usize; 9] = [3, 5, 6, 7, 10, 12, 14, 40, 56];
    let sets: Vec<&[usize]> = SIZES.chunks(1).chain([&SIZES[..7], &SIZES[..]]).collect();
    for sizes in sets {
        let mut field = Field::new(&[0..PAGEBLOCKS_PER_SECTION]);
        let mut pages = 0;
        for turn in 0.. {
            let size = sizes[turn * 7 / 3 % sizes.len()];
            let run = field.buddy.take_run(size, Order::ZERO, MOVABLE).unwrap();
            field.enter(run.start.index(), size);
            pages += size;
            if pages > 60 * 512 {
                break;
            }
        }
        field.census();
        let (free, all) = holes(&field);
        // The pageblock that is being filled counts too, and the end of each that holds no run of this size more.
        let ends = if let [size] = sizes { 512 % size * all / 512 } else { 0 };
        assert!(free <= 512 + ends + all / 50, "{free} of {all} pages are free between runs of {sizes:?}");
    }
}

#[test]
fn a_run_with_room_can_grow_where_it_stands() {
    for pages in [1, 3, 65, 100, 256, 300, 511, 512, 513, 1500] {
        let mut field = Field::new(&[0..24]);
        // Something else at the start, and something right behind the place that a run without room takes.
        let first = taken(&mut field, 20);
        let run = field.buddy.take_run_with_room(pages).unwrap();
        field.enter(run.start.index(), pages);
        assert_eq!((field.census().run, field.census().free), (20 + pages, 24 * 512 - 20 - pages));
        assert!(run.zeroed && run.start.index() != first);
        // What is free is as clean as it was, and the run grows to twice its size.
        assert!(field.free_blocks().into_iter().all(|(_, _, zeroed)| zeroed));
        assert_eq!((pages, field.buddy.extend_run(run.start, pages, pages)), (pages, Some(true)));
        field.enter(run.start.index(), 2 * pages);
        assert_eq!((field.census().run, field.buddy.dirty_pageblocks), (20 + 2 * pages, 0));
        field.free(run.start.index(), 2 * pages);
        field.free(first, 20);
        assert_eq!(field.census().free, 24 * 512);
    }
}

#[test]
fn room_behind_a_run_stays_as_clean_as_it_is() {
    // Pageblocks 1 and 2 were used, 0 and 3 were not.
    let mut field = Field::new(&[0..4]);
    let all = taken(&mut field, 4 * 512);
    field.leave(all);
    field.buddy.free_run(field.pfn(0), 512, true);
    field.buddy.free_run(field.pfn(512), 2 * 512, false);
    field.buddy.free_run(field.pfn(3 * 512), 512, true);
    let run = field.buddy.take_run_with_room(700).unwrap();
    field.enter(run.start.index(), 700);
    assert_eq!((run.start.index(), run.zeroed), (0, false));
    assert_eq!((field.census().free, field.buddy.dirty_pageblocks), (4 * 512 - 700, 1));
    let blocks = field.free_blocks();
    assert!(blocks.iter().all(|(start, _, zeroed)| *zeroed == (*start >= 3 * 512)), "{blocks:?}");
}

#[test]
fn where_there_is_no_room_there_is_no_run_with_room() {
    let mut field = Field::new(&[0..2]);
    assert!(field.buddy.take_run_with_room(513).is_none());
    assert!(field.buddy.take_run_with_room(PAGES_PER_SECTION).is_none());
    assert!(field.buddy.take_run_with_room(usize::MAX).is_none());
    assert_eq!((field.census().free, field.buddy.take_run_with_room(512).is_some()), (1024, true));
}
