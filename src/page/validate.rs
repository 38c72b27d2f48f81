//! Recounting every page of a zone against its lists and counts. The zone's lock is held throughout; blocks on
//! threads' lists may move meanwhile, so the result is exact only while no other thread allocates or frees.
#![forbid(unsafe_code)]

use super::buddy::{Buddy, pfn};
use super::class_map;
use super::mm_types::{Kind, Word};
use super::node::is_global;
use super::section::{MemMap, sections};
use crate::base::pfn::{NR_ORDERS, Order, PAGEBLOCK_PAGES, PAGEBLOCKS_PER_SECTION, PAGES_PER_SECTION, Pfn};

/// An invariant that does not hold, and the address of the page where (0 where it is none in particular).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub what: &'static str,
    /// The address.
    pub address: usize,
}

impl Violation {
    pub(crate) fn at(what: &'static str, pfn: Pfn) -> Self {
        Self { what, address: MemMap.address(pfn).as_ptr().addr() }
    }

    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, address: 0 }
    }
}

/// What the pages of a zone are used for, in base pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Pages of all arenas.
    pub managed: usize,
    /// On the buddy lists.
    pub free: usize,
    /// On the lists of threads.
    pub pcp: usize,
    /// In slabs.
    pub slab: usize,
    /// In runs.
    pub run: usize,
}

impl Census {
    /// Adds another zone's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.managed += other.managed;
        self.free += other.free;
        self.pcp += other.pcp;
        self.slab += other.slab;
        self.run += other.run;
    }
}

/// What a walk has counted.
struct Counted {
    census: Census,
    /// Free blocks, by order and list.
    blocks: [[usize; super::buddy::NR_LISTS]; NR_ORDERS],
    /// Pages of free blocks within pageblocks that count as backed.
    backed: usize,
    /// Pages that are being given back.
    isolated: usize,
}

/// Walks the zone's pages. `slab` is called with the first page of each slab.
pub(crate) fn census(
    buddy: &Buddy,
    slab: &mut dyn FnMut(Pfn) -> Result<(), Violation>,
) -> Result<Census, Violation> {
    let blocks = [[0; super::buddy::NR_LISTS]; NR_ORDERS];
    let mut counted = Counted { census: Census::default(), blocks, backed: 0, isolated: 0 };
    let mut dirty = 0;
    for section in sections() {
        let ours = |index: usize| MemMap.pageblock(section.add(index)).zone() == buddy.zone;
        let mut index = 0;
        while index < PAGES_PER_SECTION {
            if index.is_multiple_of(PAGEBLOCK_PAGES) && !ours(index) {
                index += PAGEBLOCK_PAGES;
                continue;
            }
            let page = section.add(index);
            let pages = count(buddy, page, &mut counted, slab)?;
            if index / PAGEBLOCK_PAGES != (index + pages - 1) / PAGEBLOCK_PAGES
                && !(index..index + pages).step_by(PAGEBLOCK_PAGES).all(ours)
            {
                return Err(Violation::at("a block reaches out of its zone", page));
            }
            index += pages;
        }
        for pageblock in 0..PAGEBLOCKS_PER_SECTION {
            dirty += usize::from(check_pageblock(buddy, section.add(pageblock * PAGEBLOCK_PAGES))?);
        }
    }
    let Counted { census, blocks, backed, isolated } = counted;
    let sums = [
        (backed == buddy.backed_pages, "the count of backed free pages is not that of the pages"),
        (isolated == buddy.isolated_pages, "the count of pages being given back is not that of the pages"),
        (census.free == buddy.free_pages, "the count of free pages is not that of the pages"),
        (census.managed == buddy.managed_pages, "the count of managed pages is not that of the pages"),
        (dirty == buddy.dirty_pageblocks, "the count of dirty pageblocks is not that of the pageblocks"),
        (buddy.dedicated.is_sound(&MemMap), "the list of dedicated mappings is broken"),
    ];
    if let Some((_, what)) = sums.into_iter().find(|(holds, _)| !holds) {
        return Err(Violation::of(what));
    }
    check_lists(buddy, &blocks)?;
    Ok(census)
}

/// Counts the block that starts at `page` and returns its pages.
fn count(
    buddy: &Buddy,
    page: Pfn,
    counted: &mut Counted,
    slab: &mut dyn FnMut(Pfn) -> Result<(), Violation>,
) -> Result<usize, Violation> {
    let census = &mut counted.census;
    let word = MemMap.page(page).word();
    let order = word.order();
    let pages = match word.kind() {
        Kind::Buddy => {
            check_free(buddy, page, word)?;
            counted.blocks[order.index()][word.list()] += 1;
            counted.backed += if word.backed() { order.pages() } else { 0 };
            census.free += order.pages();
            order.pages()
        }
        Kind::Pcp => {
            census.pcp += order.pages();
            order.pages()
        }
        Kind::Slab => {
            check_slab(page, word)?;
            slab(page)?;
            census.slab += order.pages();
            order.pages()
        }
        Kind::Run => {
            let pages = MemMap.page(page).run_pages();
            if pages == 0 || page.index() + pages > PAGES_PER_SECTION {
                return Err(Violation::at("a run of an impossible length", page));
            }
            if word.class() == 0 {
                census.run += pages;
            } else {
                slab(page)?;
                census.slab += pages;
            }
            pages
        }
        // It is being given back.
        Kind::Isolated => {
            counted.isolated += order.pages();
            order.pages()
        }
        Kind::Nothing | Kind::Dedicated => {
            return Err(Violation::at("a page of an arena that nobody has", page));
        }
    };
    if word.kind() != Kind::Run && !page.is_aligned(order) {
        return Err(Violation::at("a block that is not aligned to its size", page));
    }
    check_class_map(page, word, pages)?;
    census.managed += pages;
    Ok(pages)
}

/// Whether the class map says of a block's pages what the first one's word says.
fn check_class_map(first: Pfn, word: Word, pages: usize) -> Result<(), Violation> {
    let global = is_global(word.zone()) && is_global(MemMap.pageblock(first).zone());
    for offset in 0..pages {
        let expected = match word.kind() {
            Kind::Slab if global => word.class(),
            Kind::Run if global && offset == 0 => word.class(),
            _ => 0,
        };
        let address = MemMap.address(first.add(offset)).as_ptr().addr();
        if class_map::peek(address) != expected {
            return Err(Violation::at("the class map and a page disagree", first.add(offset)));
        }
    }
    Ok(())
}

fn check_free(buddy: &Buddy, page: Pfn, word: Word) -> Result<(), Violation> {
    let order = word.order();
    if word.zone() != buddy.zone {
        return Err(Violation::at("a free block of another zone", page));
    }
    if order < Order::MAX {
        let other = MemMap.page(page.buddy(order)).word();
        let backing = |pfn| MemMap.pageblock(pfn).hugetlb();
        if other.kind() == Kind::Buddy
            && other.zone() == buddy.zone
            && other.order() == order
            && backing(page) == backing(page.buddy(order))
        {
            return Err(Violation::at("two free buddies that were not merged", page));
        }
    }
    let expected = if order >= Order::PAGEBLOCK {
        let clean = (0..order.pages())
            .step_by(PAGEBLOCK_PAGES)
            .all(|start| MemMap.pageblock(page.add(start)).zeroed());
        usize::from(clean)
    } else {
        MemMap.pageblock(page).migratetype().index()
    };
    if word.list() != expected {
        return Err(Violation::at("a free block on the wrong list", page));
    }
    Ok(())
}

fn check_slab(page: Pfn, word: Word) -> Result<(), Violation> {
    let alike = |offset: usize| {
        let other = MemMap.page(page.add(offset)).word();
        other.kind() == Kind::Slab
            && other.offset() == offset
            && other.class() == word.class()
            && other.zone() == word.zone()
    };
    if (0..word.order().pages()).all(alike) {
        Ok(())
    } else {
        Err(Violation::at("a slab whose pages disagree", page))
    }
}

/// Checks a pageblock's count of free pages; returns whether it is dirty.
fn check_pageblock(buddy: &Buddy, first: Pfn) -> Result<bool, Violation> {
    let pageblock = MemMap.pageblock(first);
    if pageblock.zone() != buddy.zone {
        return Ok(false);
    }
    let mut free = 0;
    for index in 0..PAGEBLOCK_PAGES {
        let word = MemMap.page(first.add(index)).word();
        free += if word.kind() == Kind::Buddy { word.order().pages() } else { 0 };
    }
    // In the middle of a larger free block no page starts one.
    let inside_larger = free == 0 && buddy.whole_block_of(first).is_some();
    let free = if inside_larger { PAGEBLOCK_PAGES } else { free.min(PAGEBLOCK_PAGES) };
    if free != pageblock.free() {
        return Err(Violation::at("a pageblock's count of free pages is wrong", first));
    }
    Ok(pageblock.free() == PAGEBLOCK_PAGES && !pageblock.zeroed() && !pageblock.hugetlb())
}

fn check_lists(
    buddy: &Buddy,
    blocks: &[[usize; super::buddy::NR_LISTS]; NR_ORDERS],
) -> Result<(), Violation> {
    for (order, area) in buddy.areas.iter().enumerate() {
        for (index, list) in area.lists.iter().enumerate() {
            if !list.is_sound(&MemMap) {
                return Err(Violation::of("a free list's links are broken"));
            }
            if list.len() != blocks[order][index] {
                return Err(Violation::of("a free list does not hold the free blocks of its order"));
            }
            for element in list.iter(&MemMap) {
                let word = MemMap.page(pfn(element)).word();
                if word.kind() != Kind::Buddy || word.order().index() != order || word.list() != index {
                    return Err(Violation::at("a page on a free list says otherwise", pfn(element)));
                }
            }
        }
    }
    Ok(())
}
