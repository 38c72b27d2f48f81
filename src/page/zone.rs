//! A zone: one buddy allocator behind its lock, and the arenas that feed it.
//!
//! Everybody above takes pages here or through `page_alloc.rs`. `buddy` guards the lists, counts and page words
//! of free blocks; `growing` lets one thread at a time map an arena, so that several misses do not each map
//! one; `purging` lets one at a time give a block back. Order: `growing`, `purging`, `buddy`; no system call under
//! `buddy`.
#![forbid(unsafe_code)]

use core::ptr::NonNull;

use super::arena::unmap_new;
use super::buddy::{Buddy, ZoneEvents};
use super::class_map;
use super::fallback::Mode;
use super::mm_types::FreeBlock;
use super::run::Taken;
use super::section::{MemMap, cover, pfn_of};
use crate::base::config::{Config, Hugepages};
use crate::base::pfn::{
    Migratetype, Order, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGES_PER_SECTION, Pfn,
};
use crate::sys::bug::Line;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;
use crate::sys::sync::{AtomicBool, AtomicIsize, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// Above this many bytes of arenas, new ones ask for hugepages: below some 10 MiB of heap they only cost.
const HUGEPAGES_FROM: usize = 16 << 20;
/// The largest arena that is mapped ahead of demand, in bytes.
const MAX_ARENA: usize = 1 << 30;
/// Pages moved under one hold of the lock, as Linux's `zone_batchsize` gives for zones of ordinary size.
const BATCH: u32 = 63;
/// The same below `BATCH_FROM` bytes of arenas.
const SMALL_BATCH: u32 = 15;
const BATCH_FROM: usize = 16 << 20;
/// The most that the knobs for batch and high mean: more is a hold of the lock, or a thread's hoard, without bound.
const MAX_BATCH: u32 = 4096;
const MAX_HIGH: u32 = 1 << 20;
/// Blocks of order 9 that the lists of all threads may hold together.
pub(crate) const MAX_HUGE_ON_LISTS: isize = 64;

const _: () = assert!(MAX_ARENA <= PAGES_PER_SECTION * PAGE_SIZE * 4 && PAGEBLOCK_SIZE <= MAX_ARENA);

/// What the pages of the global instance's zone name it by.
pub(crate) const GLOBAL_ZONE: u16 = 1;

/// One node's memory of one instance.
#[repr(C)]
pub(crate) struct Zone {
    pub(crate) buddy: Lock<Buddy>,
    pub(crate) growing: Lock<()>,
    /// Held by whoever gives a block back.
    pub(crate) purging: Lock<()>,
    /// What pages name the zone by.
    pub(crate) id: u16,
    /// Pages of arenas; written under `growing`.
    mapped_pages: AtomicUsize,
    /// Pages that one hold of the lock moves.
    batch: AtomicU32,
    /// 0 lets batch follow the zone's size.
    fixed_batch: AtomicU32,
    /// 0 lets high follow demand.
    pub(crate) fixed_high: AtomicU32,
    limit_pages: AtomicUsize,
    pub(crate) slack_pages: AtomicUsize,
    hugepages: AtomicU8,
    pub(crate) high_orders: AtomicBool,
    /// Order-9 blocks that the lists of all threads may hold.
    pub(crate) huge_on_lists: AtomicIsize,
}

// Relaxed throughout: knobs and counts that decide nothing about who owns what.

impl Zone {
    /// A zone with no memory. `id` is what its pages name it by, 1 or more.
    pub(crate) const fn new(id: u16) -> Self {
        Self {
            buddy: Lock::new(Buddy::new(id)),
            growing: Lock::new(()),
            purging: Lock::new(()),
            id,
            mapped_pages: AtomicUsize::new(0),
            batch: AtomicU32::new(SMALL_BATCH),
            fixed_batch: AtomicU32::new(0),
            fixed_high: AtomicU32::new(0),
            limit_pages: AtomicUsize::new(usize::MAX),
            slack_pages: AtomicUsize::new(0),
            hugepages: AtomicU8::new(Hugepages::Thp as u8),
            high_orders: AtomicBool::new(true),
            huge_on_lists: AtomicIsize::new(0),
        }
    }

    /// Sets the knobs. Meant for a zone that is new; later changes hold from the next use on.
    pub(crate) fn configure(&self, config: &Config) {
        self.fixed_batch.store(config.pcp_batch.min(MAX_BATCH), Ordering::Relaxed);
        self.fixed_high.store(config.pcp_high.min(MAX_HIGH), Ordering::Relaxed);
        self.limit_pages.store(config.limit / PAGE_SIZE, Ordering::Relaxed);
        self.slack_pages.store(config.slack / PAGE_SIZE, Ordering::Relaxed);
        self.hugepages.store(config.hugepages as u8, Ordering::Relaxed);
        self.high_orders.store(config.pcp_high_orders, Ordering::Relaxed);
        self.update_batch();
    }

    /// Whether the lists of threads may hold one block of order 9 more; then it counts as granted.
    pub(crate) fn grant_huge(&self) -> bool {
        let more = |held| (held < MAX_HUGE_ON_LISTS).then_some(held + 1);
        self.huge_on_lists.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A grant for a block of order 9 is not needed any more.
    pub(crate) fn end_huge(&self) {
        self.huge_on_lists.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn batch(&self) -> u32 {
        self.batch.load(Ordering::Relaxed)
    }

    /// Pages of arenas.
    pub(crate) fn mapped_pages(&self) -> usize {
        self.mapped_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn limit_pages(&self) -> usize {
        self.limit_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn wants_hugepages(&self) -> bool {
        self.hugepages.load(Ordering::Relaxed) != Hugepages::Off as u8
    }

    /// The lock, counted.
    pub(crate) fn lock(&self) -> Guard<'_, Buddy> {
        let mut buddy = self.buddy.lock();
        buddy.events.lock += 1;
        buddy
    }

    /// A copy of the counts of events.
    pub(crate) fn events(&self) -> ZoneEvents {
        self.buddy.lock().events
    }

    /// Takes 1 to `wanted` blocks of one order under one hold of the lock and hands each to `put`. Only the
    /// first may make the zone grow. Returns how many there were; 0 means out of memory.
    pub(crate) fn take_bulk(
        &self,
        order: Order,
        migratetype: Migratetype,
        wanted: usize,
        put: &mut dyn FnMut(FreeBlock),
    ) -> usize {
        self.with_growth(order.pages(), order, |buddy| {
            let mut mode = Mode::Own;
            let mut taken = 0;
            while taken < wanted && self.allows(buddy, order.pages()) {
                let Some(block) = buddy.take_from_any(order, migratetype, &mut mode) else { break };
                put(block);
                taken += 1;
            }
            (taken > 0).then_some(taken)
        })
        .unwrap_or(0)
    }

    /// Takes one block, from the zone itself.
    pub(crate) fn take(&self, order: Order, migratetype: Migratetype) -> Option<FreeBlock> {
        let mut found = None;
        self.take_bulk(order, migratetype, 1, &mut |block| found = Some(block));
        found
    }

    /// Takes an exact run of 1 page to a section, that starts at a multiple of `align` (at most a pageblock).
    pub(crate) fn take_run(&self, pages: usize, align: Order, migratetype: Migratetype) -> Option<Taken> {
        self.with_growth(pages.max(align.pages()), align, |buddy| {
            if self.allows(buddy, pages) { buddy.take_run(pages, align, migratetype) } else { None }
        })
    }

    /// Takes the `more` pages that follow a run, if they are free. Returns whether they read as zero.
    pub(crate) fn extend_run(&self, start: Pfn, pages: usize, more: usize) -> Option<bool> {
        let mut buddy = self.lock();
        if self.allows(&buddy, more) { buddy.extend_run(start, pages, more) } else { None }
    }

    /// Frees pages that the caller owns, in one hold of the lock, and gives excess back to the system.
    pub(crate) fn free_run(&self, start: Pfn, pages: usize) {
        let mut buddy = self.lock();
        buddy.free_run(start, pages, false);
        let excess = self.has_excess(&buddy);
        drop(buddy);
        if excess {
            self.purge_excess();
        }
    }

    /// Frees blocks for as long as `next` has some, `chunk` pages to a hold of the lock.
    pub(crate) fn free_bulk(&self, chunk: usize, next: &mut dyn FnMut() -> Option<FreeBlock>) {
        while let Some(first) = next() {
            let mut buddy = self.lock();
            let mut pages = first.pages();
            buddy.free(first);
            while pages < chunk {
                let Some(block) = next() else { break };
                pages += block.pages();
                buddy.free(block);
            }
            let excess = self.has_excess(&buddy);
            drop(buddy);
            if excess {
                self.purge_excess();
            }
        }
    }

    /// Whether the limit leaves room for this many pages more.
    pub(crate) fn allows(&self, buddy: &Buddy, pages: usize) -> bool {
        buddy.used_pages().saturating_add(pages) <= self.limit_pages()
    }

    /// Takes from the lists, and where they lack it, maps an arena and takes again.
    fn with_growth<R>(
        &self,
        pages: usize,
        align: Order,
        mut take: impl FnMut(&mut Buddy) -> Option<R>,
    ) -> Option<R> {
        let mut buddy = self.lock();
        if let Some(found) = take(&mut buddy) {
            return Some(found);
        }
        if !self.allows(&buddy, pages) {
            return None;
        }
        drop(buddy);
        let _growing = self.growing.lock();
        // Somebody may have grown the zone meanwhile.
        if let Some(found) = take(&mut self.lock()) {
            return Some(found);
        }
        let Some((address, length, hugetlb)) = self.map_arena(pages, align) else {
            // What is being given back was on no list. Now nothing is.
            let _purging = self.purging.lock();
            return take(&mut self.lock());
        };
        let mut buddy = self.lock();
        self.add_arena(&mut buddy, address, length, hugetlb);
        take(&mut buddy)
    }

    /// Adds a new arena that reads as zero and has struct pages.
    pub(super) fn add_arena(&self, buddy: &mut Buddy, address: NonNull<u8>, length: usize, hugetlb: bool) {
        buddy.events.grow += 1;
        add_sections(buddy, address, length, hugetlb);
        self.mapped_pages.store(buddy.managed_pages, Ordering::Relaxed);
        self.update_batch();
    }

    /// Maps an arena for at least `pages` pages that starts at a multiple of `align`: an eighth of what there is, so that what is mapped ahead of
    /// demand stays a bounded part, or just what is needed where the system refuses more.
    fn map_arena(&self, pages: usize, align: Order) -> Option<(NonNull<u8>, usize, bool)> {
        let needed = pages.div_ceil(PAGEBLOCK_PAGES).checked_mul(PAGEBLOCK_SIZE)?;
        if self.hugepages.load(Ordering::Relaxed) == Hugepages::Hugetlb as u8 {
            if let Some(address) = map::map_hugetlb(needed) {
                return self.covered(address, needed).map(|address| (address, needed, true));
            }
            self.hugepages.store(Hugepages::Thp as u8, Ordering::Relaxed);
            Line::new()
                .text("the pool of 2 MiB pages has no room (vm.nr_hugepages); using transparent hugepages")
                .print();
        }
        let mapped = self.mapped_pages() << PAGE_SHIFT;
        let ahead = (mapped / 8).min(MAX_ARENA) & !(PAGEBLOCK_SIZE - 1);
        let (address, length) = [ahead.max(needed), needed].into_iter().find_map(|length| {
            map::map(length, align.max(Order::PAGEBLOCK).bytes()).map(|address| (address, length))
        })?;
        let address = self.covered(address, length)?;
        map::advise_hugepages(address, length, self.wants_hugepages() && mapped >= HUGEPAGES_FROM);
        Some((address, length, false))
    }

    /// A new arena that has struct pages, and a class map where that is used; without them it is of no use, and goes
    /// back.
    fn covered(&self, address: NonNull<u8>, length: usize) -> Option<NonNull<u8>> {
        let mapped = || self.id != GLOBAL_ZONE || class_map::cover(address.as_ptr().addr(), length);
        if cover(address, length) && mapped() {
            return Some(address);
        }
        unmap_new(address, length);
        None
    }

    fn update_batch(&self) {
        let fixed = self.fixed_batch.load(Ordering::Relaxed);
        let small = self.mapped_pages() < BATCH_FROM / PAGE_SIZE;
        let batch = if fixed > 0 {
            fixed
        } else if small {
            SMALL_BATCH
        } else {
            BATCH
        };
        self.batch.store(batch, Ordering::Relaxed);
    }

    /// Takes the zone's lock before a fork. Not `growing`: its holder may wait for `buddy`, which the forking
    /// thread may hold, if it forks from a signal handler that interrupted it.
    pub(crate) fn fork_prepare(&self) {
        self.buddy.fork_prepare();
    }

    /// Releases it in parent and child.
    pub(crate) fn fork_release(&self) {
        self.buddy.fork_release();
    }

    /// In the child: nobody is growing the zone any more. An arena that was being mapped is lost to the child.
    pub(crate) fn fork_child(&self) {
        self.growing.fork_reset();
        // Nor giving a block back, but for this very thread, in what the signal handler that forks interrupted.
        if !self.purging.is_mine() {
            self.purging.fork_reset();
            if !self.buddy.is_mine() {
                self.buddy.lock().put_isolated_back();
            }
        }
    }
}

impl Buddy {
    /// Pages that are neither free nor being given back: in use, on the lists of threads, or in mappings of their own.
    pub(crate) fn used_pages(&self) -> usize {
        self.managed_pages - self.free_pages - self.isolated_pages + self.dedicated_pages
    }
}

/// Adds a new arena section by section.
pub(super) fn add_sections(buddy: &mut Buddy, address: NonNull<u8>, length: usize, hugetlb: bool) {
    let start = address.as_ptr().addr();
    let mut at = start;
    while at < start + length {
        let Some(pfn) = pfn_of(at) else { return };
        let pages = (PAGES_PER_SECTION - pfn.index()).min((start + length - at) >> PAGE_SHIFT);
        debug_assert_eq!(MemMap.address(pfn).as_ptr().addr(), at);
        buddy.add_arena(pfn, pages, hugetlb);
        at += pages << PAGE_SHIFT;
    }
}
