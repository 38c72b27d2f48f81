//! What the page allocator writes down: `struct page`, `struct pageblock`, and the free block as a value.
//!
//! All of it is plain `repr(C)` data made of atomics, so any thread, and a reader in another process, may look
//! at any time. Who may write a page's word: the holder of the zone's lock while the block is in the buddy
//! lists, the owner of the PCP list while it is there, its user otherwise.
#![forbid(unsafe_code)]

use crate::base::list::Link;
use crate::base::pfn::{Migratetype, Order, PAGE_SIZE, Pfn};
use crate::sys::map;
use crate::sys::sync::{AtomicU8, AtomicU16, AtomicU64, Ordering};

/// What a page is the start of (or, for slabs, a part of).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Not in any arena, or inside a block or a run whose start is an earlier page.
    Nothing = 0,
    /// A block of the buddy lists starts here.
    Buddy = 1,
    /// A block of a thread's page lists starts here.
    Pcp = 2,
    /// A page of a slab, the first or another one.
    Slab = 3,
    /// A run of pages in use starts here. Of class 0 unless it is an object of the slab layer's.
    Run = 4,
    /// A mapping of its own starts here.
    Dedicated = 5,
    /// A free block that is being given back starts here: on no list that is served from.
    Isolated = 6,
}

/// The word of a page: what it is, whose, and of which class.
///
/// Bits 0-7 class, 8-15 kind, 16-31 zone, 32-39 order, 40-43 list, 44 zeroed, 45 backed, 48-55 offset to the slab's
/// first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) const NOTHING: Self = Self(0);

    pub(crate) const fn new(kind: Kind, zone: u16) -> Self {
        Self((kind as u64) << 8 | (zone as u64) << 16)
    }

    pub(crate) const fn with_class(self, class: u8) -> Self {
        Self(self.0 | class as u64)
    }

    pub(crate) const fn with_order(self, order: Order) -> Self {
        Self(self.0 | (order.get() as u64) << 32)
    }

    pub(crate) const fn with_list(self, list: usize) -> Self {
        Self(self.0 | (list as u64 & 15) << 40)
    }

    pub(crate) const fn with_zeroed(self, zeroed: bool) -> Self {
        Self(self.0 | (zeroed as u64) << 44)
    }

    pub(crate) const fn with_backed(self, backed: bool) -> Self {
        Self(self.0 | (backed as u64) << 45)
    }

    pub(crate) const fn with_offset(self, offset: usize) -> Self {
        Self(self.0 | (offset as u64 & 255) << 48)
    }

    #[inline]
    pub(crate) const fn kind(self) -> Kind {
        match (self.0 >> 8) as u8 {
            1 => Kind::Buddy,
            2 => Kind::Pcp,
            3 => Kind::Slab,
            4 => Kind::Run,
            5 => Kind::Dedicated,
            6 => Kind::Isolated,
            _ => Kind::Nothing,
        }
    }

    #[inline]
    pub(crate) const fn class(self) -> usize {
        self.0 as u8 as usize
    }

    #[inline]
    pub(crate) const fn zone(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    pub(crate) const fn order(self) -> Order {
        Order::new((self.0 >> 32) as u32 & 31)
    }

    #[inline]
    pub(crate) const fn list(self) -> usize {
        (self.0 >> 40) as usize & 15
    }

    #[inline]
    pub(crate) const fn zeroed(self) -> bool {
        self.0 >> 44 & 1 == 1
    }

    /// Of a free block within a pageblock: whether it counts as backed.
    #[inline]
    pub(crate) const fn backed(self) -> bool {
        self.0 >> 45 & 1 == 1
    }

    /// Pages from the slab's first page to this one.
    #[inline]
    pub(crate) const fn offset(self) -> usize {
        (self.0 >> 48) as usize & 255
    }
}

/// `struct page`: 32 bytes for each 4 KiB.
#[repr(C)]
pub(crate) struct Page {
    word: AtomicU64,
    /// Links of whichever list the block is on.
    pub(crate) link: Link,
    /// By kind: a run's pages and then nothing; a dedicated mapping's bytes; a slab's free objects.
    pub(crate) private: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Page>() == 32);

// Relaxed throughout: a word is written before the block's address is handed on, and whoever hands it on (a
// lock, a program's own synchronisation) orders the two.

impl Page {
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_word(&self, word: Word) {
        self.word.store(word.0, Ordering::Relaxed);
    }

    /// Pages of the run that starts here.
    #[inline]
    pub(crate) fn run_pages(&self) -> usize {
        self.private[0].load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub(crate) fn set_run_pages(&self, pages: usize) {
        self.private[0].store(pages as u64, Ordering::Relaxed);
    }
}

/// `struct pageblock`: 8 bytes for each 2 MiB. Written under the lock of its zone.
#[repr(C)]
pub(crate) struct Pageblock {
    /// 0 where no arena is.
    zone: AtomicU16,
    /// Pages in the buddy lists.
    free: AtomicU16,
    migratetype: AtomicU8,
    flags: AtomicU8,
    /// 1 where core dumps leave the pageblock out. Not a flag: it changes outside the zone's lock too.
    left_out: AtomicU8,
    unused: AtomicU8,
}

const _: () = assert!(size_of::<Pageblock>() == 8);

/// The pageblock is wholly free, and reads as zero.
const FLAG_ZEROED: u8 = 1;
/// The pageblock is backed by the system's hugepage pool, and cannot be given back.
const FLAG_HUGETLB: u8 = 2;
/// The pageblock asks for a transparent hugepage: its first touch backs all of it.
const FLAG_HUGE: u8 = 4;
/// Parts of the pageblock were given back, which splits a hugepage.
const FLAG_SPLIT: u8 = 8;
/// The pageblock was given back, and nobody had it since.
const FLAG_PURGED: u8 = 16;

/// What backs new pageblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Pages of the system's own size, as they are touched.
    Small,
    /// Transparent hugepages, as they are touched.
    Huge,
    /// The system's hugepage pool, from the start.
    Hugetlb,
}

impl Pageblock {
    #[inline]
    pub(crate) fn zone(&self) -> u16 {
        self.zone.load(Ordering::Relaxed)
    }

    /// Makes the pageblock part of a zone (or of none, 0), with nothing free in it.
    pub(crate) fn assign(&self, zone: u16, backing: Backing) {
        self.free.store(0, Ordering::Relaxed);
        self.set_migratetype(Migratetype::Movable);
        let flags = match backing {
            Backing::Small => 0,
            Backing::Huge => FLAG_HUGE,
            Backing::Hugetlb => FLAG_HUGETLB,
        };
        self.flags.store(flags, Ordering::Relaxed);
        self.set_left_out(zone > 0 && backing != Backing::Hugetlb && map::dumps_only_used());
        self.zone.store(zone, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn migratetype(&self) -> Migratetype {
        Migratetype::from_raw(self.migratetype.load(Ordering::Relaxed))
    }

    pub(crate) fn set_migratetype(&self, migratetype: Migratetype) {
        self.migratetype.store(migratetype as u8, Ordering::Relaxed);
    }

    /// Pages of it in the buddy lists.
    #[inline]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed).into()
    }

    pub(crate) fn set_free(&self, pages: usize) {
        self.free.store(pages as u16, Ordering::Relaxed);
    }

    /// While wholly free: whether it reads as zero, which also means that nothing backs it.
    pub(crate) fn zeroed(&self) -> bool {
        self.has_flag(FLAG_ZEROED)
    }

    pub(crate) fn set_zeroed(&self, zeroed: bool) {
        self.set_flag(FLAG_ZEROED, zeroed);
    }

    pub(crate) fn hugetlb(&self) -> bool {
        self.has_flag(FLAG_HUGETLB)
    }

    /// Whether it is backed as a whole, once anything of it is.
    pub(crate) fn huge(&self) -> bool {
        self.has_flag(FLAG_HUGE) && !self.has_flag(FLAG_SPLIT)
    }

    /// Notes that it has a transparent hugepage now, though its arena asked for none.
    pub(crate) fn set_huge(&self) {
        self.set_flag(FLAG_HUGE, true);
        self.set_split(false);
    }

    /// Whether parts of it were given back since it was whole.
    pub(crate) fn split(&self) -> bool {
        self.has_flag(FLAG_SPLIT)
    }

    /// Notes whether parts of it were given back.
    pub(crate) fn set_split(&self, split: bool) {
        self.set_flag(FLAG_SPLIT, split);
    }

    /// While wholly free: whether it was given back, and not only never used.
    pub(crate) fn purged(&self) -> bool {
        self.has_flag(FLAG_PURGED)
    }

    pub(crate) fn set_purged(&self, purged: bool) {
        self.set_flag(FLAG_PURGED, purged);
    }

    /// Whether core dumps leave it out. Relaxed: by whoever has pages of it, or has it isolated.
    pub(crate) fn left_out(&self) -> bool {
        self.left_out.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_left_out(&self, left_out: bool) {
        self.left_out.store(left_out.into(), Ordering::Relaxed);
    }

    fn has_flag(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn set_flag(&self, flag: u8, on: bool) {
        let others = self.flags.load(Ordering::Relaxed) & !flag;
        self.flags.store(others | if on { flag } else { 0 }, Ordering::Relaxed);
    }
}

/// A block of pages that is on no list and in nobody's use: whoever holds this value owns it. Not `Clone`:
/// splitting consumes it, merging consumes both halves, and handing it out or putting it on a list does too.
#[derive(Debug)]
#[must_use = "a dropped block is lost to the allocator"]
pub(crate) struct FreeBlock {
    pfn: Pfn,
    order: Order,
    zeroed: bool,
}

impl FreeBlock {
    /// Takes possession of a block. The caller has just taken it off a list, or was given it back.
    #[inline]
    pub(crate) fn from_parts(pfn: Pfn, order: Order, zeroed: bool) -> Self {
        debug_assert!(pfn.is_aligned(order));
        Self { pfn, order, zeroed }
    }

    #[inline]
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }

    #[inline]
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Whether all of it is known to read as zero.
    #[inline]
    pub(crate) fn zeroed(&self) -> bool {
        self.zeroed
    }

    pub(crate) fn pages(&self) -> usize {
        self.order.pages()
    }

    /// Its pageblocks, by their first pages; of a smaller block the one that it is in.
    pub(crate) fn pageblocks(&self) -> impl Iterator<Item = Pfn> + use<> {
        self.pfn.pageblocks(self.pages())
    }

    /// Lower and upper half.
    pub(crate) fn split(self) -> (Self, Self) {
        debug_assert!(self.order > Order::ZERO);
        let order = self.order.below();
        let upper = Self { pfn: self.pfn.add(order.pages()), order, zeroed: self.zeroed };
        (Self { order, ..self }, upper)
    }

    /// The block that this one and its buddy make.
    pub(crate) fn merge(self, buddy: Self) -> Self {
        debug_assert!(self.order == buddy.order && self.pfn.buddy(self.order) == buddy.pfn);
        Self { pfn: self.pfn.min(buddy.pfn), order: self.order.above(), zeroed: self.zeroed && buddy.zeroed }
    }

    /// Cuts `pages` pages from `start` on, which the caller owns, into aligned blocks, first to last.
    pub(crate) fn pieces(start: Pfn, pages: usize, zeroed: bool) -> impl Iterator<Item = Self> {
        let end = start.index() + pages;
        let mut next = start;
        let mut left = pages;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let order = Order::fitting(next.index(), end);
            let block = Self { pfn: next, order, zeroed };
            left -= order.pages();
            next = next.add(order.pages());
            Some(block)
        })
    }
}

/// Bytes of `pages` pages; `None` on overflow.
pub(crate) fn bytes_of(pages: usize) -> Option<usize> {
    pages.checked_mul(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_fields_apart() {
        let word = Word::new(Kind::Slab, 0xbeef)
            .with_class(31)
            .with_order(Order::MAX)
            .with_list(2)
            .with_zeroed(true)
            .with_offset(7);
        assert_eq!((word.kind(), word.zone(), word.class()), (Kind::Slab, 0xbeef, 31));
        assert_eq!((word.order(), word.list(), word.zeroed(), word.offset()), (Order::MAX, 2, true, 7));
        assert_eq!(Word::NOTHING.kind(), Kind::Nothing);
    }

    #[test]
    fn pieces_tile_the_range() {
        for (start, pages) in [(0, 1), (5, 3), (7, 1000), (512, 65_024), (0, 65_536), (1, 65_535)] {
            let mut next = start;
            for piece in FreeBlock::pieces(Pfn::new(1, start).unwrap(), pages, true) {
                assert_eq!(piece.pfn().index(), next);
                assert!(piece.pfn().is_aligned(piece.order()));
                next += piece.pages();
            }
            assert_eq!(next, start + pages);
        }
    }
}
