//! Which arenas ask for hugepages, and which pageblocks become one later.
#![forbid(unsafe_code)]

use super::*;
use crate::sys::fault::{Call, arm};
use std::io::Write;

/// A zone that may have hugepages.
fn home() -> Home {
    Home::with(&Config { slack: 1 << 40, ..Config::new() })
}

/// Takes so many pageblocks, of which so many pages each are touched. Whatever the system's setting is, small pages
/// back them.
fn used(home: &Home, pageblocks: usize, touched: usize) -> Vec<Pfn> {
    let runs: Vec<_> = (0..pageblocks).map(|_| home.take(512)).collect();
    for run in &runs {
        map::advise_hugepages(MemMap.address(*run), PAGEBLOCK_SIZE, false);
        dirty_pages(*run, touched);
    }
    runs
}

#[test]
fn a_heap_below_16_mib_stays_on_small_pages() {
    let home = home();
    home.grow(7);
    used(&home, 7, 512);
    assert_eq!(home.zone.choose_backing(), Backing::Small);
    home.grow(1);
    used(&home, 1, 512);
    assert_eq!(home.zone.choose_backing(), Backing::Huge);
    home.zone.hugepages.store(Hugepages::Off as u8, Ordering::Relaxed);
    assert_eq!(home.zone.choose_backing(), Backing::Small);
}

#[test]
fn a_heap_that_is_hardly_touched_stays_on_small_pages() {
    // Ten of sixteen parts of what is in use must be in memory: 320 pages of 512.
    for (touched, backing) in [
        (0, Backing::Small),
        (1, Backing::Small),
        (300, Backing::Small),
        (340, Backing::Huge),
        (512, Backing::Huge),
    ] {
        let home = home();
        home.grow(40);
        used(&home, 40, touched);
        assert_eq!((touched, home.zone.choose_backing()), (touched, backing));
    }
    // What is free and touched no more says nothing of what is in use.
    let home = home();
    home.grow(40);
    for run in used(&home, 40, 1) {
        enter_run(run, 400, home.zone.id);
        home.zone.free_run(run.add(400), 112);
    }
    assert_eq!(home.zone.choose_backing(), Backing::Small);
}

#[test]
fn only_pageblocks_on_small_pages_are_asked() {
    // The hugepages of this heap are there as a whole, whatever is touched: they say nothing.
    let home = home();
    home.grow_with(20, Backing::Huge);
    home.take(20 * 512);
    assert_eq!(home.zone.choose_backing(), Backing::Huge);
    // Of twenty pageblocks on small pages nothing is touched.
    home.grow(20);
    used(&home, 20, 0);
    assert_eq!(home.zone.choose_backing(), Backing::Small);
}

#[test]
fn whoever_cannot_be_asked_counts_as_dense() {
    let home = home();
    home.grow(20);
    assert_eq!(home.zone.choose_backing(), Backing::Huge);
    used(&home, 20, 0);
    assert!(arm(Call::Advise, 0, u64::MAX));
    assert_eq!(home.zone.choose_backing(), Backing::Huge);
}

/// Whether the system makes a hugepage of small ones when asked. If not, prints why nothing is tested.
fn can_collapse() -> bool {
    let home = home();
    home.grow(1);
    let run = used(&home, 1, 512)[0];
    let can = map::collapse(MemMap.address(run), PAGEBLOCK_SIZE);
    if !can {
        // Unlike `eprintln!` this also shows when the test passes.
        let reason =
            "skipped: the system collapses no pages (MADV_COLLAPSE, Linux 6.1; transparent hugepages)";
        let _ = writeln!(std::io::stderr(), "{reason}");
    }
    can
}

/// KiB of transparent hugepages in the system's mappings that start within these pageblocks.
fn huge_kib(first: Pfn, pageblocks: usize) -> usize {
    let start = MemMap.address(first).as_ptr().addr();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sum) = (false, 0);
    for line in smaps.lines() {
        let from = line.split_once('-').and_then(|(from, _)| usize::from_str_radix(from, 16).ok());
        inside = from.map_or(inside, |from| (start..start + blocks(pageblocks)).contains(&from));
        if let Some(kib) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            sum += kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
        }
    }
    sum
}

#[test]
fn dense_pageblocks_become_hugepages_in_proportion_to_growth() {
    if !can_collapse() {
        return;
    }
    let home = home();
    home.grow(31);
    let mut runs = used(&home, 31, 512);
    home.zone.collapse(blocks(40));
    assert_eq!(home.zone.events().collapse, 0, "of a heap of 62 MiB");
    home.grow(20);
    // Some are full, some miss more than a sixteenth, and of some a page is free.
    runs.extend(used(&home, 5, 512));
    let sparse = used(&home, 5, 470);
    let partly = used(&home, 5, 512);
    for run in &partly {
        enter_run(*run, 511, home.zone.id);
        home.zone.free_run(run.add(511), 1);
    }
    runs.iter().chain(&sparse).chain(&partly).for_each(|run| stamp(run.add(1), run.index()));
    let mut expected = 0;
    for (grown, most) in [(1, 1), (blocks(4), 1), (blocks(4) + 1, 2), (blocks(12), 3)] {
        home.zone.collapse(grown);
        expected += most;
        assert_eq!(home.zone.events().collapse, expected);
    }
    let huge = runs.iter().filter(|run| MemMap.pageblock(**run).huge()).count();
    assert_eq!(huge as u64, expected);
    for _ in 0..6 {
        home.zone.collapse(blocks(40));
    }
    assert_eq!(home.zone.events().collapse, 36);
    assert!(runs.iter().all(|run| MemMap.pageblock(*run).huge()));
    assert!(!sparse.iter().chain(&partly).any(|run| MemMap.pageblock(*run).huge()));
    let kib: usize = runs.iter().map(|run| huge_kib(*run, 1)).sum();
    // Neighbours share a mapping of the system's, which is counted where it starts.
    assert_eq!(kib, 36 * 2048);
    for run in runs.iter().chain(&sparse).chain(&partly) {
        assert_eq!((stamp_of(run.add(1)), stamp_of(*run) & 0xff), (run.index(), 0xa5));
    }
    home.census();
}
