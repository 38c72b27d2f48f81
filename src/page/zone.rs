//! A zone: one buddy allocator behind its lock, and the arenas that feed it.
//!
//! Everybody above takes pages here or through `page_alloc.rs`. `buddy` guards the lists, counts and page words
//! of free blocks; `growing` lets one thread at a time map an arena, so that several misses do not each map
//! one; `purging` lets one at a time give a block back. Order: `growing`, `purging`, `buddy`; no system call under
//! `buddy`.
#![forbid(unsafe_code)]

use super::arena::Arena;
use super::buddy::{Buddy, ZoneEvents};
use super::dump::{Opened, put_into_dumps};
use super::fallback::Mode;
use super::mm_types::{Backing, FreeBlock};
use super::node::Binding;
use super::run::Taken;
use super::section::{MemMap, pfn_of};
use crate::base::budget::Budget;
use crate::base::config::{Config, Hugepages};
use crate::base::pfn::{Migratetype, Order, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_SIZE, PAGES_PER_SECTION, Pfn};
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicBool, AtomicIsize, AtomicU8, AtomicU32, AtomicUsize, Ordering};

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

/// What the pages of the global instance's first zone name it by.
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
    pub(super) limit_pages: AtomicUsize,
    pub(crate) slack_pages: AtomicUsize,
    /// A [`Hugepages`].
    pub(super) hugepages: AtomicU8,
    /// Where the search for pageblocks to collapse goes on: a section's number and a pageblock of it.
    pub(super) collapse_from: AtomicUsize,
    /// Written under `buddy` after a free: whether too much is free and backed within pageblocks in use, and the pages
    /// that are in use then.
    pub(super) pressed: AtomicBool,
    pub(super) used_when_pressed: AtomicUsize,
    pub(crate) high_orders: AtomicBool,
    /// Order-9 blocks that the lists of all threads may hold.
    pub(crate) huge_on_lists: AtomicIsize,
    pub(super) binding: Binding,
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
            collapse_from: AtomicUsize::new(0),
            pressed: AtomicBool::new(false),
            used_when_pressed: AtomicUsize::new(0),
            high_orders: AtomicBool::new(true),
            huge_on_lists: AtomicIsize::new(0),
            binding: Binding::none(),
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
        self.buddy.lock().group_by_mobility = config.group_by_mobility;
        self.update_batch();
    }

    /// Sets the knobs to those of another zone of the instance.
    pub(super) fn take_knobs_of(&self, zone: &Self) {
        let copy =
            |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.fixed_batch, &zone.fixed_batch);
        copy(&self.fixed_high, &zone.fixed_high);
        self.slack_pages.store(zone.slack_pages.load(Ordering::Relaxed), Ordering::Relaxed);
        self.hugepages.store(zone.hugepages.load(Ordering::Relaxed), Ordering::Relaxed);
        self.high_orders.store(zone.high_orders.load(Ordering::Relaxed), Ordering::Relaxed);
        let group_by_mobility = zone.buddy.lock().group_by_mobility;
        self.buddy.lock().group_by_mobility = group_by_mobility;
        self.update_batch();
    }

    /// Whether the lists of threads may hold one block of order 9 more; then it counts as granted.
    pub(crate) fn grant_huge(&self, budget: &Budget) -> bool {
        let more = |held| (held < MAX_HUGE_ON_LISTS).then_some(held + 1);
        self.huge_on_lists.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
            && (budget.take(PAGEBLOCK_SIZE) || {
                self.huge_on_lists.fetch_sub(1, Ordering::Relaxed);
                false
            })
    }

    /// So many grants for blocks of order 9 are not needed any more.
    pub(crate) fn end_huge(&self, budget: &Budget, grants: u32) {
        self.huge_on_lists.fetch_sub(grants as isize, Ordering::Relaxed);
        budget.put(grants as usize * PAGEBLOCK_SIZE);
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
        let mut opened = Opened::new();
        let taken = self.with_growth(order.pages(), order, |buddy| {
            let mut mode = Mode::Own;
            let mut taken = 0;
            while taken < wanted && opened.has_room() && self.allows(buddy, order.pages()) {
                let Some(block) = buddy.take_from_any(order, migratetype, &mut mode) else { break };
                opened.note(block.pfn(), block.pages());
                put(block);
                taken += 1;
            }
            (taken > 0).then_some(taken)
        });
        opened.put_into_dumps();
        taken.unwrap_or(0)
    }

    /// Takes one block, from the zone itself.
    pub(crate) fn take(&self, order: Order, migratetype: Migratetype) -> Option<FreeBlock> {
        let mut found = None;
        self.take_bulk(order, migratetype, 1, &mut |block| found = Some(block));
        found
    }

    /// Takes an exact run of 1 page to a section, that starts at a multiple of `align` (at most a pageblock).
    pub(crate) fn take_run(&self, pages: usize, align: Order, migratetype: Migratetype) -> Option<Taken> {
        let taken = self.with_growth(pages.max(align.pages()), align, |buddy| {
            if self.allows(buddy, pages) { buddy.take_run(pages, align, migratetype) } else { None }
        })?;
        put_into_dumps(taken.start, pages);
        Some(taken)
    }

    /// As `take_run`, with room behind it where the zone has such a place.
    pub(crate) fn take_run_with_room(&self, pages: usize) -> Option<Taken> {
        let taken = self.with_growth(pages, Order::ZERO, |buddy| {
            if !self.allows(buddy, pages) {
                return None;
            }
            buddy
                .take_run_with_room(pages)
                .or_else(|| buddy.take_run(pages, Order::ZERO, Migratetype::Movable))
        })?;
        put_into_dumps(taken.start, pages);
        Some(taken)
    }

    /// Takes 1 to `wanted` runs of `pages` pages (at most a pageblock) under one hold of the lock and hands each to
    /// `put`. Returns how many there were; 0 means out of memory.
    pub(crate) fn take_runs(&self, pages: usize, wanted: usize, put: &mut dyn FnMut(Taken)) -> usize {
        let mut opened = Opened::new();
        let taken = self.with_growth(pages, Order::ZERO, |buddy| {
            let mut taken = 0;
            while taken < wanted && opened.has_room() && self.allows(buddy, pages) {
                let Some(run) = buddy.take_run(pages, Order::ZERO, Migratetype::Movable) else { break };
                opened.note(run.start, pages);
                put(run);
                taken += 1;
            }
            (taken > 0).then_some(taken)
        });
        opened.put_into_dumps();
        taken.unwrap_or(0)
    }

    /// Takes the `more` pages that follow a run, if they are free. Returns whether they read as zero.
    pub(crate) fn extend_run(&self, start: Pfn, pages: usize, more: usize) -> Option<bool> {
        let mut buddy = self.lock();
        let extended = if self.allows(&buddy, more) { buddy.extend_run(start, pages, more) } else { None };
        let above = self.above_limit(&buddy) > 0;
        drop(buddy);
        if above && extended.is_some() {
            self.purge_to_limit();
        }
        if extended.is_some() {
            put_into_dumps(start.add(pages), more);
        }
        extended
    }

    /// Frees pages that the caller owns, in one hold of the lock, and gives excess back to the system.
    pub(crate) fn free_run(&self, start: Pfn, pages: usize) {
        let mut buddy = self.lock();
        buddy.free_run(start, pages, false);
        let excess = self.is_above_high(&mut buddy);
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
            let excess = self.is_above_high(&mut buddy);
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
        let found = take(&mut buddy);
        let (allowed, above) = (self.allows(&buddy, pages), self.above_limit(&buddy) > 0);
        drop(buddy);
        let (found, above) = match found {
            None if allowed => (self.grow(pages, align, &mut take), self.is_limited()),
            found => (found, above),
        };
        if above && found.is_some() {
            self.purge_to_limit();
        }
        found
    }

    /// Maps an arena, unless another thread just did, and takes from it.
    #[cold]
    fn grow<R>(
        &self,
        pages: usize,
        align: Order,
        take: &mut dyn FnMut(&mut Buddy) -> Option<R>,
    ) -> Option<R> {
        let growing = self.growing.lock();
        // Somebody may have grown the zone meanwhile.
        if let Some(found) = take(&mut self.lock()) {
            return Some(found);
        }
        // An arena that lies across two sections may be no room for a run. The next one, right below it, then is.
        for _ in 0..2 {
            let Some(arena) = self.map_arena(pages, align) else { break };
            let mut buddy = self.lock();
            self.add_arena(&mut buddy, &arena);
            let found = take(&mut buddy);
            let allowed = self.allows(&buddy, pages);
            drop(buddy);
            if found.is_some() || !allowed || !arena.is_across_sections() {
                drop(growing);
                if arena.backing == Backing::Huge {
                    self.collapse(arena.length);
                }
                return found;
            }
        }
        // What is being given back was on no list. Now nothing is.
        let _purging = self.purging.lock();
        take(&mut self.lock())
    }

    /// Adds a new arena that reads as zero and has struct pages.
    pub(super) fn add_arena(&self, buddy: &mut Buddy, arena: &Arena) {
        buddy.events.grow += 1;
        add_sections(buddy, arena);
        self.mapped_pages.store(buddy.managed_pages, Ordering::Relaxed);
        self.update_batch();
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
                self.buddy.lock().free_all_isolated(false);
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
pub(super) fn add_sections(buddy: &mut Buddy, arena: &Arena) {
    let start = arena.address.as_ptr().addr();
    let mut at = start;
    while at < start + arena.length {
        let Some(pfn) = pfn_of(at) else { return };
        let pages = (PAGES_PER_SECTION - pfn.index()).min((start + arena.length - at) >> PAGE_SHIFT);
        debug_assert_eq!(MemMap.address(pfn).as_ptr().addr(), at);
        buddy.add_arena(pfn, pages, arena.backing);
        at += pages << PAGE_SHIFT;
    }
}
