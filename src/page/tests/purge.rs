//! Giving back: how much and when, that it reads as zero, and a system that refuses.
#![forbid(unsafe_code)]

use super::*;
use crate::sys::fault::{Call, arm, left};

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

/// Three threads that take and free 8 MiB each, of which there is just as much; all free memory is given back.
fn take_turns(home: &Home, before: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                before();
                for _ in 0..300 {
                    let run = home.zone.take_run(4 * 512, Order::ZERO, MOVABLE).expect("it is free");
                    enter_run(run.start, 4 * 512, home.zone.id);
                    dirty_pages(run.start, 1);
                    home.free(run.start);
                }
            });
        }
    });
    assert_eq!((home.dirty(), home.census().free), (0, home.zone.mapped_pages()));
}

#[test]
fn what_is_being_given_back_is_not_in_use() {
    let config = Config { hugepages: Hugepages::Off, slack: 0, ..Config::new() };
    // No limit is reached by it.
    let home = Home::with(&Config { limit: blocks(12), ..config });
    take_turns(&home, || ());
    // And where the system has no more, whoever needs it waits for it.
    let home = Home::with(&config);
    home.grow(12);
    take_turns(&home, || assert!(arm(Call::Map, 0, u64::MAX)));
    assert_eq!(home.zone.mapped_pages(), 12 * 512);
}

#[test]
fn a_fork_s_child_finds_what_was_being_given_back() {
    let home = with_slack(8);
    home.grow(4);
    let run = home.take(4 * 512);
    home.free(run);
    // As the child of a process whose other thread was in the middle of giving two pageblocks back.
    let mut buddy = home.zone.buddy.lock();
    assert!(buddy.isolate_dirty(2).is_some());
    assert_eq!((buddy.used_pages(), buddy.dirty_pageblocks), (0, 2));
    drop(buddy);
    let census = home.census();
    assert_eq!((census.managed, census.free), (4 * 512, 2 * 512));
    std::thread::scope(|scope| {
        // A lock of a thread that is no more.
        scope.spawn(|| std::mem::forget(home.zone.purging.lock()));
    });
    home.zone.fork_child();
    assert_eq!((home.census().free, home.dirty(), home.zone.purge_all()), (4 * 512, 4, blocks(4)));
}

#[test]
fn whoever_finds_no_memory_waits_for_what_is_being_given_back() {
    let home = with_slack(8);
    home.grow(2);
    let run = home.take(2 * 512);
    home.free(run);
    std::thread::scope(|scope| {
        let purging = home.zone.purging.lock();
        assert!(home.zone.buddy.lock().isolate_dirty(2).is_some());
        let waiter = scope.spawn(|| {
            assert!(arm(Call::Map, 0, u64::MAX));
            home.zone.take(Order::PAGEBLOCK, MOVABLE).map(|block| block.pfn())
        });
        // Long enough for one who does not wait to come back with nothing.
        std::thread::sleep(std::time::Duration::from_millis(100));
        home.zone.buddy.lock().free_all_isolated(false);
        drop(purging);
        assert_eq!(waiter.join().unwrap(), Some(run));
    });
}

#[test]
fn what_a_fork_left_isolated_is_not_taken_for_given_back() {
    let home = with_slack(8);
    home.grow(8);
    let run = home.take(8 * 512);
    dirty_pages(run, 8 * 512);
    home.free(run);
    // A fork's child, from a signal handler that interrupted this thread under `buddy`, while another one was giving
    // two pageblocks back: `fork_child` cannot free what is isolated.
    assert!(home.zone.buddy.lock().isolate_dirty(2).is_some());
    home.zone.purge_all();
    home.census();
    for _ in 0..8 {
        let block = home.zone.take(Order::PAGEBLOCK, MOVABLE).unwrap();
        enter_run(block.pfn(), 512, home.zone.id);
        assert!(!block.zeroed() || reads_as_zero(block.pfn(), 512), "not zero, but said to be");
    }
}

#[test]
fn growth_without_a_limit_does_not_wait_for_what_is_being_given_back() {
    let home = with_slack(8);
    std::thread::scope(|scope| {
        let purging = home.zone.purging.lock();
        let (done, wait) = std::sync::mpsc::channel();
        let zone = &home.zone;
        scope.spawn(move || {
            let block = zone.take(Order::PAGEBLOCK, MOVABLE).unwrap();
            enter_run(block.pfn(), 512, zone.id);
            done.send(()).unwrap();
        });
        let came = wait.recv_timeout(std::time::Duration::from_secs(30));
        drop(purging);
        assert!(came.is_ok(), "a zone without a limit waited for `purging`");
    });
}
