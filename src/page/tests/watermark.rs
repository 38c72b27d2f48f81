//! Watermarks: the boost, the pressure within pageblocks in use, the limit on all that is backed, and what backs the
//! struct pages of memory that is given back.
#![forbid(unsafe_code)]

use super::*;
use crate::page::section::sections;

/// Takes so many pageblocks as one run, writes to them, and frees them. Returns how many were given back by that.
fn take_and_free(home: &Home, pageblocks: usize) -> u64 {
    let before = home.zone.events().purge;
    let run = home.take(pageblocks * 512);
    dirty_pages(run, pageblocks * 512);
    home.free(run);
    home.zone.events().purge - before
}

#[test]
fn what_was_given_back_and_is_wanted_again_stays_the_next_time() {
    let home = with_slack(8);
    home.grow(32);
    assert_eq!((take_and_free(&home, 32), home.zone.events().refault), (28, 0));
    // All 28 are wanted again: the watermark is 8 + 28 now.
    assert_eq!((take_and_free(&home, 32), home.zone.events().refault), (0, 28));
    assert_eq!((home.dirty(), take_and_free(&home, 32), home.zone.events().refault), (32, 0, 28));
    // New memory was never given back, so its use raises nothing.
    let home = with_slack(8);
    home.grow(64);
    let first = home.take(32 * 512);
    home.free(first);
    let all = home.take(64 * 512);
    assert_eq!(home.zone.events().refault, 28);
    home.free(all);
    // 64 are more than 8 + 28.
    assert!(home.dirty() <= 18);
}

#[test]
fn the_boost_is_at_most_eight_times_the_slack() {
    for slack in [0, 1, 2] {
        let home = with_slack(slack);
        home.grow(32);
        let purged = |round: u64| (round, take_and_free(&home, 32));
        assert_eq!(purged(0), (0, 32 - slack as u64 / 2));
        for round in 1..4 {
            // The high watermark is at most 9 times the slack, and half of it stays; none of it without slack.
            let (_, purged) = purged(round);
            assert!(purged >= 32 - (9 * slack as u64) / 2, "{purged} of 32 with slack {slack}");
            assert!(home.dirty() <= 9 * slack / 2);
        }
    }
}

#[test]
fn much_that_is_free_within_pageblocks_in_use_is_pressure() {
    let home = with_slack(1);
    home.grow(8);
    let runs: Vec<_> = (0..16).map(|_| home.take(256)).collect();
    runs.iter().for_each(|run| dirty_pages(*run, 256));
    let (kept, freed): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.index() / 256 % 2 == 0);
    // The slack is two halves of a pageblock; with a third it is exceeded.
    for (number, run) in freed.into_iter().enumerate() {
        home.free(run);
        assert_eq!((number, home.zone.is_pressed()), (number, number >= 2));
        let used = (16 - 1 - number) * 256;
        assert!(number < 2 || home.zone.used_when_pressed() == used && home.zone.used_pages() == used);
    }
    // Wholly free pageblocks are none of it: one after the other becomes one.
    for (number, run) in kept.into_iter().enumerate() {
        home.free(run);
        assert_eq!((number, home.zone.is_pressed()), (number, 8 - 1 - number > 2));
    }
    assert!(home.dirty() <= 1);
}

#[test]
fn an_eighth_of_what_is_in_use_is_no_pressure() {
    let home = with_slack(0);
    home.grow(10);
    let used = home.take(8 * 512);
    let halves = [home.take(256), home.take(256), home.take(256), home.take(256)];
    home.free(halves[1]);
    assert!(!home.zone.is_pressed());
    home.free(halves[2]);
    home.free(used);
    assert!(home.zone.is_pressed());
}

/// Bytes of the zone's arenas that are in memory.
fn resident(home: &Home) -> usize {
    let pageblocks =
        sections().flat_map(|section| (0..PAGEBLOCKS_PER_SECTION).map(move |at| section.add(at * 512)));
    pageblocks
        .filter(|first| MemMap.pageblock(*first).zone() == home.zone.id)
        .map(|first| map::resident(MemMap.address(first), PAGEBLOCK_SIZE).unwrap())
        .sum()
}

/// All that the limit is about, in pages: in use, or free and backed.
fn backed_or_used(home: &Home) -> usize {
    let buddy = home.zone.buddy.lock();
    buddy.used_pages() + buddy.dirty_pages() + buddy.backed_pages
}

/// What a program has of a zone with a limit.
struct Program<'a> {
    home: &'a Home,
    runs: Vec<Pfn>,
    mappings: Vec<NonNull<u8>>,
}

impl Program<'_> {
    /// Writes to what was taken; whether it was anything.
    fn keep(&mut self, taken: impl IntoIterator<Item = Pfn>, pages: usize) -> bool {
        let before = self.runs.len();
        for start in taken {
            enter_run(start, pages, self.home.zone.id);
            dirty_pages(start, pages);
            self.runs.push(start);
        }
        self.runs.len() > before
    }

    /// One allocation of some kind. Whether there was memory for it.
    fn take(&mut self, kind: usize, value: usize) -> bool {
        let zone = &self.home.zone;
        let mut taken = Vec::new();
        match kind {
            0 => {
                let run = zone.take_run(1 + value % 700, Order::ZERO, MOVABLE);
                self.keep(run.map(|run| run.start), 1 + value % 700)
            }
            1 => {
                let run = zone.take_run_with_room(1 + value % 900);
                self.keep(run.map(|run| run.start), 1 + value % 900)
            }
            2 => {
                zone.take_bulk(Order::new(3), MOVABLE, 30, &mut |block| taken.push(block.pfn()));
                self.keep(taken, 8)
            }
            3 => {
                zone.take_runs(5, 30, &mut |run| taken.push(run.start));
                self.keep(taken, 5)
            }
            4 if !self.runs.is_empty() => {
                let start = self.runs.swap_remove(value % self.runs.len());
                let pages = MemMap.page(start).run_pages();
                let grew = zone.extend_run(start, pages, 8).is_some();
                self.keep([start], if grew { pages + 8 } else { pages });
                grew
            }
            _ => {
                let mapping = zone.map_dedicated(blocks(1 + value % 4), PAGE_SIZE);
                self.mappings.extend(mapping);
                mapping.is_some()
            }
        }
    }

    fn free(&mut self, value: usize) {
        if !self.mappings.is_empty() && value.is_multiple_of(16) {
            self.home.unmap(self.mappings.swap_remove(value % self.mappings.len()));
        } else if !self.runs.is_empty() {
            self.home.free(self.runs.swap_remove(value % self.runs.len()));
        }
    }
}

#[test]
fn all_that_is_backed_stays_below_the_limit_whatever_the_slack() {
    const LIMIT: usize = 24;
    let config = Config { hugepages: Hugepages::Off, slack: 1 << 40, limit: blocks(LIMIT), ..Config::new() };
    let home = Home::with(&config);
    let mut program = Program { home: &home, runs: Vec::new(), mappings: Vec::new() };
    let (mut random, mut refused, mut reached) = (7_usize, [0_u32; 6], [0; 6]);
    for step in 0..4000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (kind, value) = ((random >> 33) % 12, random >> 40);
        if kind >= 6 {
            (0..7).for_each(|more| program.free(value / 3 + more));
        } else if program.take(kind, value) {
            let all = backed_or_used(&home);
            assert!(all <= LIMIT * 512, "{all} pages in step {step}, of kind {kind}");
            reached[kind] += usize::from(all > LIMIT * 512 - 64);
        } else {
            refused[kind] += 1;
        }
        if kind < 6 && step % 32 == 0 {
            let arenas = resident(&home);
            assert!(arenas <= blocks(LIMIT), "{arenas} bytes in step {step}");
            home.census();
        }
    }
    // Each kind met the limit, and what is free was given back for it.
    assert!(reached.iter().all(|times| *times > 0), "{reached:?} {refused:?}");
    assert!(refused.iter().sum::<u32>() > 100, "{reached:?} {refused:?}");
    assert!(home.zone.events().purge > 0 && home.zone.events().purge_pages > 0);
    program.mappings.into_iter().for_each(|mapping| home.unmap(mapping));
}

#[test]
fn struct_pages_of_memory_that_is_given_back_go_too() {
    const PAGEBLOCKS: usize = 64;
    let home = with_slack(1 << 20);
    home.grow(PAGEBLOCKS);
    let mut start = None;
    let use_all = |start: &mut Option<Pfn>| {
        let runs: Vec<_> = (0..PAGEBLOCKS * 512).map(|_| home.take(1)).collect();
        *start = runs.iter().copied().min();
        runs.into_iter().for_each(|run| home.free(run));
    };
    use_all(&mut start);
    let start = start.unwrap();
    let in_memory = || {
        let range = MemMap.struct_pages(start, PAGEBLOCKS * 512);
        let (from, to) =
            (range.start.addr().next_multiple_of(PAGE_SIZE), range.end.addr() & !(PAGE_SIZE - 1));
        let address = NonNull::new(range.start.with_addr(from).cast::<u8>().cast_mut()).unwrap();
        map::resident(address, to - from).unwrap()
    };
    // 16 KiB a pageblock, less what the two ends share with others. Of each block that goes back the first one stays,
    // to say what it is.
    let all = in_memory();
    assert!(all >= (PAGEBLOCKS * 4 - 1) * PAGE_SIZE, "{all} bytes of struct pages");
    assert_eq!(home.zone.purge_all(), blocks(PAGEBLOCKS));
    assert!(in_memory() <= PAGEBLOCKS / 16 * PAGE_SIZE, "{} bytes of struct pages", in_memory());
    // What lies next to memory in use is left alone, and all of it can be used again.
    let used = home.take(700);
    use_rest(&home, PAGEBLOCKS * 512 - 700);
    home.zone.purge_all();
    assert_eq!(MemMap.page(used).run_pages(), 700);
    home.free(used);
    assert_eq!((home.census().free, home.zone.purge_all() > 0), (PAGEBLOCKS * 512, true));
    use_rest(&home, PAGEBLOCKS * 512);
    assert_eq!(home.census().free, PAGEBLOCKS * 512);
}

/// Takes so many pages one by one, all that are free, and frees them.
fn use_rest(home: &Home, pages: usize) {
    let runs: Vec<_> = (0..pages).map(|_| home.take(1)).collect();
    assert_eq!(home.census().free, 0);
    runs.into_iter().for_each(|run| home.free(run));
    home.census();
}
