//! Page frame numbers, orders and migratetypes: the coordinates of the page allocator.
//!
//! A page frame number (pfn) is a dense number of its own, not an address: the section's number in the upper
//! 16 bits, the page within the section in the lower 16. So it fits in 32 bits, links between pages are small,
//! and buddies never reach across a section. Section numbers start at 1, so 0 is no page.
#![forbid(unsafe_code)]

use core::num::NonZeroU32;

/// log2 of the bytes of a page. Logical pages are 4 KiB on every machine.
pub(crate) const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// log2 of the bytes of a section, the granule of the section table.
pub(crate) const SECTION_SHIFT: u32 = 28;
/// Pages of a section.
pub(crate) const PAGES_PER_SECTION: usize = 1 << (SECTION_SHIFT - PAGE_SHIFT);

/// The order of a hugepage: 2 MiB.
pub(crate) const HUGEPAGE_ORDER: u32 = 9;
/// The order of a pageblock, the unit of migratetypes, backing and giving back.
pub(crate) const PAGEBLOCK_ORDER: u32 = 9;
/// Pages of a pageblock.
pub(crate) const PAGEBLOCK_PAGES: usize = 1 << PAGEBLOCK_ORDER;
/// Bytes of a pageblock.
pub(crate) const PAGEBLOCK_SIZE: usize = PAGE_SIZE << PAGEBLOCK_ORDER;
/// Pageblocks of a section.
pub(crate) const PAGEBLOCKS_PER_SECTION: usize = PAGES_PER_SECTION / PAGEBLOCK_PAGES;

// A pageblock is given back as a whole, which is cheap and keeps hugepages whole only if it is made of them.
const _: () = assert!(PAGEBLOCK_ORDER >= HUGEPAGE_ORDER);

/// The largest order: a whole section.
pub(crate) const MAX_ORDER: u32 = SECTION_SHIFT - PAGE_SHIFT;
/// The number of orders.
pub(crate) const NR_ORDERS: usize = MAX_ORDER as usize + 1;

/// The number of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Pfn(NonZeroU32);

impl Pfn {
    /// The pfn with this number, `None` for 0.
    #[inline]
    pub(crate) const fn from_raw(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The page at `index` of section `section` (1 or more).
    #[inline]
    pub(crate) fn new(section: u16, index: usize) -> Option<Self> {
        debug_assert!(index < PAGES_PER_SECTION);
        Self::from_raw((u32::from(section) << MAX_ORDER) | (index as u32 & (PAGES_PER_SECTION as u32 - 1)))
    }

    #[inline]
    pub(crate) const fn raw(self) -> u32 {
        self.0.get()
    }

    /// The section's number.
    #[inline]
    pub(crate) const fn section(self) -> u16 {
        (self.raw() >> MAX_ORDER) as u16
    }

    /// The page's place in its section.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.raw() as usize & (PAGES_PER_SECTION - 1)
    }

    /// The pageblock's place in the section.
    #[inline]
    pub(crate) const fn pageblock(self) -> usize {
        self.index() >> PAGEBLOCK_ORDER
    }

    /// The page `pages` further on. It must lie in the same section, or be the section's end.
    #[inline]
    pub(crate) fn add(self, pages: usize) -> Self {
        debug_assert!(self.index() + pages <= PAGES_PER_SECTION);
        Self(self.0.saturating_add(pages as u32))
    }

    /// The pageblocks that the `pages` pages from this one on lie in, by their first pages.
    pub(crate) fn pageblocks(self, pages: usize) -> impl Iterator<Item = Self> {
        let first = self.align_down(Order::PAGEBLOCK);
        let offset = self.index() - first.index();
        (0..offset + pages).step_by(PAGEBLOCK_PAGES).map(move |index| first.add(index))
    }

    /// The page before this one. It must lie in the same section.
    #[inline]
    pub(crate) fn previous(self) -> Self {
        debug_assert!(self.index() > 0);
        Self::from_raw(self.raw() - 1).unwrap_or(self)
    }

    /// The start of the other half of the block of twice this size: the XOR buddy. Never in another section,
    /// for orders below `MAX_ORDER`.
    #[inline]
    pub(crate) fn buddy(self, order: Order) -> Self {
        debug_assert!(order.get() < MAX_ORDER);
        // The section's number is untouched and not 0, so the result is not 0 either.
        Self::from_raw(self.raw() ^ (1 << order.get())).unwrap_or(self)
    }

    /// The start of the aligned block of this order that holds this page.
    #[inline]
    pub(crate) fn align_down(self, order: Order) -> Self {
        let index = self.index() & (order.pages() - 1);
        Self::from_raw(self.raw() - index as u32).unwrap_or(self)
    }

    #[inline]
    pub(crate) fn is_aligned(self, order: Order) -> bool {
        self.index().is_multiple_of(order.pages())
    }
}

/// log2 of a number of pages, 0 to `MAX_ORDER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Order(u8);

impl Order {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const PAGEBLOCK: Self = Self(PAGEBLOCK_ORDER as u8);
    pub(crate) const MAX: Self = Self(MAX_ORDER as u8);

    /// The order with this number. Larger ones are cut to `MAX_ORDER`; a caller that could pass one checks.
    #[inline]
    pub(crate) const fn new(order: u32) -> Self {
        debug_assert!(order <= MAX_ORDER);
        if order > MAX_ORDER { Self::MAX } else { Self(order as u8) }
    }

    /// The smallest order with at least `pages` pages (1 to a section).
    #[inline]
    pub(crate) fn covering(pages: usize) -> Self {
        Self::new(pages.next_power_of_two().trailing_zeros())
    }

    /// The largest order of a block that starts at `index` and ends at or before `end` (both in pages).
    #[inline]
    pub(crate) fn fitting(index: usize, end: usize) -> Self {
        debug_assert!(index < end);
        let room = (end - index).ilog2();
        Self::new(index.trailing_zeros().min(room).min(MAX_ORDER))
    }

    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(crate) const fn pages(self) -> usize {
        1 << self.0
    }

    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        PAGE_SIZE << self.0
    }

    #[inline]
    pub(crate) const fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    #[inline]
    pub(crate) const fn above(self) -> Self {
        Self::new(self.0 as u32 + 1)
    }

    /// The orders from this one to `MAX_ORDER`.
    pub(crate) fn and_above(self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=Self::MAX.0).map(Self)
    }

    /// The orders from this one to below a pageblock's.
    pub(crate) fn to_pageblock(self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..Self::PAGEBLOCK.0).map(Self)
    }
}

/// What a pageblock is used for, which predicts whether it becomes whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Migratetype {
    /// Slabs: freed when the last of many objects goes.
    Unmovable = 0,
    /// Direct page allocations: freed as a unit.
    Movable = 1,
    /// What the allocator can drop by itself.
    Reclaimable = 2,
}

impl Migratetype {
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The type with this number; anything else is `Movable`, the type of pageblocks that nobody claimed.
    #[inline]
    pub(crate) const fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Unmovable,
            2 => Self::Reclaimable,
            _ => Self::Movable,
        }
    }

    /// Whose pageblocks to take from when there are none of this type, as Linux's table `fallbacks` has it.
    pub(crate) const fn fallbacks(self) -> [Self; 2] {
        match self {
            Self::Unmovable => [Self::Reclaimable, Self::Movable],
            Self::Movable => [Self::Reclaimable, Self::Unmovable],
            Self::Reclaimable => [Self::Unmovable, Self::Movable],
        }
    }

    /// The kernel's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pfn_is_its_parts() {
        let pfn = Pfn::new(3, 0x1234).unwrap();
        assert_eq!((pfn.section(), pfn.index(), pfn.pageblock()), (3, 0x1234, 9));
        assert_eq!(pfn.align_down(Order::new(4)).index(), 0x1230);
        assert_eq!(pfn.buddy(Order::new(2)).index(), 0x1230);
        assert_eq!(pfn.buddy(Order::new(2)).buddy(Order::new(2)), pfn);
        assert!(pfn.is_aligned(Order::new(2)) && !pfn.is_aligned(Order::new(3)));
        assert_eq!(Pfn::new(1, 0).unwrap().align_down(Order::MAX).index(), 0);
    }

    #[test]
    fn orders_cover_and_fit() {
        assert_eq!(Order::covering(1), Order::ZERO);
        assert_eq!(Order::covering(5).get(), 3);
        assert_eq!(Order::covering(512), Order::PAGEBLOCK);
        assert_eq!(Order::fitting(5, 8).get(), 0);
        assert_eq!(Order::fitting(6, 8).get(), 1);
        assert_eq!(Order::fitting(0, 5).get(), 2);
        assert_eq!(Order::fitting(0, PAGES_PER_SECTION), Order::MAX);
    }
}
