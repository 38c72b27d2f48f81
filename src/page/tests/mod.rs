//! Tests of the page layer, and what they stand on: `Field`, a buddy allocator over pages without memory, and
//! `Home`, a zone with memory.

#![allow(clippy::single_range_in_vec_init, reason = "lists of arenas, some of one arena")]

mod buddy;
mod dedicated;
mod drain;
mod fallback;
mod hugepage;
mod pcp;
mod purge;
mod run;
mod watermark;
mod within;
mod zone;

use core::ptr::NonNull;
use std::iter;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use super::arena::Arena;
use super::arena::{forget, unmap_all};
use super::buddy::{Buddy, NR_LISTS};
use super::mm_types::{Backing, FreeBlock, Kind, Word};
use super::node::is_global;
use super::page_alloc::PageAlloc;
use super::pcp::Pcp;
use super::section::{MemMap, cover, pfn_of};
use super::validate::{Census, census};
use super::zone::Zone;
use crate::base::budget::Budget;
use crate::base::config::{Config, Hugepages};
use crate::base::pfn::{
    Order, PAGE_SIZE, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGEBLOCKS_PER_SECTION, Pfn, SECTION_SHIFT,
};
use crate::sys::bracket::{Bracket, Inside};
use crate::sys::map;

/// A zone's number that no other test has, nor any instance.
fn zone_number() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(30_000);
    // Not one of the global instance's, whatever the node.
    iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).find(|zone| !is_global(*zone)).unwrap()
}

/// Sections for fields that no field uses now, as `address >> SECTION_SHIFT`; the first unused one ends it.
/// They lie where the kernel puts nothing unasked.
static SLOTS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static FIRST_SLOT: Mutex<usize> = Mutex::new(0x3000);

/// A section of pages that have struct pages but no memory, some of them in arenas of one buddy allocator.
pub(super) struct Field {
    slot: usize,
    section: Pfn,
    pub(super) buddy: Buddy,
}

impl Field {
    /// Arenas of whole pageblocks at these places of the section.
    pub(super) fn new(arenas: &[Range<usize>]) -> Self {
        let mut field = Self::empty();
        for arena in arenas {
            field.add(arena.clone(), Backing::Small);
        }
        field
    }

    pub(super) fn empty() -> Self {
        let spare = SLOTS.lock().unwrap().pop();
        let slot = spare.unwrap_or_else(|| {
            let mut next = FIRST_SLOT.lock().unwrap();
            *next += 1;
            *next
        });
        let address = core::ptr::with_exposed_provenance_mut::<u8>(slot << SECTION_SHIFT);
        assert!(cover(NonNull::new(address).unwrap(), PAGE_SIZE));
        let section = pfn_of(slot << SECTION_SHIFT).unwrap();
        Self { slot, section, buddy: Buddy::new(zone_number()) }
    }

    pub(super) fn add(&mut self, pageblocks: Range<usize>, backing: Backing) {
        let pages = pageblocks.len() * PAGEBLOCK_PAGES;
        self.buddy.add_arena(self.pfn(pageblocks.start * PAGEBLOCK_PAGES), pages, backing);
    }

    /// The page at this place of the section.
    pub(super) fn pfn(&self, index: usize) -> Pfn {
        Pfn::new(self.section.section(), index).unwrap()
    }

    /// Writes a run that was taken down, as `page_alloc.rs` does.
    pub(super) fn enter(&self, start: usize, pages: usize) {
        enter_run(self.pfn(start), pages, self.buddy.zone);
    }

    /// Takes back what `enter` wrote.
    pub(super) fn leave(&self, start: usize) {
        MemMap.page(self.pfn(start)).set_word(Word::NOTHING);
    }

    pub(super) fn free(&mut self, start: usize, pages: usize) {
        self.leave(start);
        self.buddy.free_run(self.pfn(start), pages, false);
    }

    pub(super) fn census(&self) -> Census {
        census(&self.buddy, &mut |_| Ok(())).unwrap()
    }

    /// The free blocks as (first page, pages, zeroed), by address.
    pub(super) fn free_blocks(&self) -> Vec<(usize, usize, bool)> {
        free_blocks(&self.buddy)
            .into_iter()
            .map(|(pfn, pages, zeroed)| (pfn.index(), pages, zeroed))
            .collect()
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for pageblock in 0..PAGEBLOCKS_PER_SECTION {
            forget(self.section.add(pageblock * PAGEBLOCK_PAGES));
        }
        SLOTS.lock().unwrap().push(self.slot);
    }
}

fn enter_run(start: Pfn, pages: usize, zone: u16) {
    MemMap.page(start).set_run_pages(pages);
    MemMap.page(start).set_word(Word::new(Kind::Run, zone));
}

/// All free blocks, by address.
fn free_blocks(buddy: &Buddy) -> Vec<(Pfn, usize, bool)> {
    let lists = buddy.areas.iter().flat_map(|area| &area.lists[..NR_LISTS]);
    let mut blocks: Vec<_> = lists
        .flat_map(|list| list.iter(&MemMap))
        .map(|element| {
            let pfn = super::buddy::pfn(element);
            let word = MemMap.page(pfn).word();
            (pfn, word.order().pages(), word.zeroed())
        })
        .collect();
    blocks.sort();
    blocks
}

/// The largest aligned blocks that tile these pageblocks: what is left when everything is free.
fn maximal(pageblocks: Range<usize>) -> Vec<(usize, usize)> {
    let start = Pfn::new(1, pageblocks.start * PAGEBLOCK_PAGES).unwrap();
    let pieces = FreeBlock::pieces(start, pageblocks.len() * PAGEBLOCK_PAGES, true);
    pieces.map(|piece| (piece.pfn().index(), piece.pages())).collect()
}

/// A zone of its own, with what a thread needs to use it.
pub(crate) struct Home {
    pub(crate) zone: Box<Zone>,
    pub(crate) budget: Budget,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(&Config { hugepages: Hugepages::Off, ..Config::new() })
    }

    pub(crate) fn with(config: &Config) -> Self {
        let zone = Box::new(Zone::new(zone_number()));
        zone.configure(config);
        Self { zone, budget: Budget::new(1 << 30) }
    }

    /// The page allocator as a thread with these page lists sees it.
    pub(crate) fn pages<'a>(&'a self, pcp: &'a mut Pcp) -> PageAlloc<'a> {
        PageAlloc { zone: &self.zone, zones: None, budget: &self.budget, pcp: Some(pcp) }
    }

    /// The same for a thread without lists.
    pub(crate) fn bare(&self) -> PageAlloc<'_> {
        PageAlloc { zone: &self.zone, zones: None, budget: &self.budget, pcp: None }
    }

    pub(crate) fn census(&self) -> Census {
        census(&self.zone.buddy.lock(), &mut |_| Ok(())).unwrap()
    }

    pub(crate) fn dirty(&self) -> usize {
        self.zone.buddy.lock().dirty_pageblocks
    }

    /// Adds an arena of so many pageblocks, at the start of a section: one that the zone maps by itself may lie
    /// across two.
    pub(crate) fn grow(&self, pageblocks: usize) {
        self.grow_with(pageblocks, Backing::Small);
    }

    /// The same with a backing, of which the pageblocks say so and the system is told nothing.
    pub(crate) fn grow_with(&self, pageblocks: usize, backing: Backing) {
        let length = blocks(pageblocks);
        let address = map::map(length, 1 << SECTION_SHIFT).unwrap();
        assert!(cover(address, length));
        let arena = Arena { address, length, backing };
        self.zone.add_arena(&mut self.zone.buddy.lock(), &arena);
    }

    /// Takes a run straight from the zone.
    pub(crate) fn take(&self, pages: usize) -> Pfn {
        let start = self.zone.take_run(pages, Order::ZERO, MOVABLE).unwrap().start;
        enter_run(start, pages, self.zone.id);
        start
    }

    /// Frees a run straight to the zone.
    pub(crate) fn free(&self, start: Pfn) {
        MemMap.page(start).set_word(Word::NOTHING);
        self.zone.free_run(start, MemMap.page(start).run_pages());
    }

    /// Unmaps a mapping of its own.
    fn unmap(&self, address: NonNull<u8>) {
        // SAFETY: `map_dedicated` of this zone returned the address, and the test is done with it.
        unsafe { self.zone.unmap_dedicated(pfn_of(address.as_ptr().addr()).unwrap()) };
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // SAFETY: the test is over, and with it all use of the zone's memory.
        unsafe { self.zone.unmap_all_dedicated() };
        // SAFETY: as above.
        unsafe { unmap_all(self.zone.id) };
    }
}

/// A zone that gives back whatever is beyond this many pageblocks, or an eighth of what is in use.
fn with_slack(pageblocks: usize) -> Home {
    Home::with(&Config { hugepages: Hugepages::Off, slack: blocks(pageblocks), ..Config::new() })
}

/// Goes into page lists as their owner.
fn enter_as_owner(lists: &Bracket<Pcp>) -> Option<Inside<'_, Pcp>> {
    // SAFETY: in each test one thread alone enters a bracket this way.
    unsafe { lists.owner() }
}

const MOVABLE: crate::base::pfn::Migratetype = crate::base::pfn::Migratetype::Movable;

/// Writes to every page of a run that the test owns.
fn dirty_pages(start: Pfn, pages: usize) {
    for index in 0..pages {
        // SAFETY: the first byte of a page that the test took.
        unsafe { MemMap.address(start.add(index)).write(0xa5) };
    }
}

/// Writes a number to the start of a run that the calling thread took.
fn stamp(start: Pfn, number: usize) {
    // SAFETY: the first bytes of a run of the caller's.
    unsafe { MemMap.address(start).cast::<usize>().write(number) };
}

/// What `stamp` wrote.
fn stamp_of(start: Pfn) -> usize {
    // SAFETY: as in `stamp`.
    unsafe { MemMap.address(start).cast::<usize>().read() }
}

/// Whether a run that the test owns reads as zero.
fn reads_as_zero(start: Pfn, pages: usize) -> bool {
    // SAFETY: pages of an arena that the test took and does not write while the slice lives.
    let bytes = unsafe { core::slice::from_raw_parts(MemMap.address(start).as_ptr(), pages * PAGE_SIZE) };
    bytes.chunks_exact(PAGE_SIZE).all(|page| page[0] == 0 && page[PAGE_SIZE - 1] == 0)
}

/// Bytes of so many pageblocks.
const fn blocks(pageblocks: usize) -> usize {
    pageblocks * PAGEBLOCK_SIZE
}
