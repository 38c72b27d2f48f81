//! From addresses to pages and back: the section table (Linux's SPARSEMEM).
//!
//! A section is 256 MiB of address space. When the first arena touches one, its `struct page` array is mapped,
//! backed by the system as it is written, and published by compare-exchange; it is never freed, so a reference
//! to a page is good for the life of the process. Table and arrays belong to the process, not to an instance:
//! they are the only statics of `page/`.
//!
//! Anybody may look pages up. Nothing here takes a lock.

use core::num::NonZeroU32;
use core::ptr::NonNull;

use super::class_map;
use super::mm_types::{Page, Pageblock};
use crate::base::list::{Link, Links};
use crate::base::pfn::{
    PAGE_SHIFT, PAGE_SIZE, PAGEBLOCKS_PER_SECTION, PAGES_PER_SECTION, Pfn, SECTION_SHIFT,
};
use crate::sys::bug::{bug, bug_on};
use crate::sys::handoff;
use crate::sys::map;
use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering};

/// Bits of a user address.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const VA_BITS: u32 = 47;
#[cfg(target_arch = "aarch64")]
pub(crate) const VA_BITS: u32 = 48;

/// Entries of the section table.
pub(crate) const NR_TABLE: usize = 1 << (VA_BITS - SECTION_SHIFT);
/// The largest number of sections with pages: 16 TiB of heap. Number 0 stays unused, so that pfn 0 is no page.
pub(crate) const NR_SECTIONS: usize = 1 << 16;

/// The pages of 256 MiB of addresses. The struct pages come last, so that the parts that are always used share
/// the first page of the mapping.
#[repr(C)]
pub(crate) struct Section {
    /// `address >> SECTION_SHIFT` of its addresses.
    slot: u32,
    number: u32,
    unused: [u64; 3],
    pageblocks: [Pageblock; PAGEBLOCKS_PER_SECTION],
    pages: [Page; PAGES_PER_SECTION],
}

/// From an address to its section.
pub(crate) static TABLE: [AtomicPtr<Section>; NR_TABLE] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_TABLE];
/// From a section's number to the section.
pub(crate) static SECTIONS: [AtomicPtr<Section>; NR_SECTIONS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_SECTIONS];
/// Numbers given out so far.
pub(crate) static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// Every page of every section: what policy code works on.
#[derive(Clone, Copy)]
pub(crate) struct MemMap;

impl MemMap {
    /// The page with this number.
    #[inline]
    pub(crate) fn page(self, pfn: Pfn) -> &'static Page {
        &self.section(pfn).pages[pfn.index()]
    }

    /// The pageblock that holds this page.
    #[inline]
    pub(crate) fn pageblock(self, pfn: Pfn) -> &'static Pageblock {
        &self.section(pfn).pageblocks[pfn.pageblock()]
    }

    /// The struct pages of `pages` pages of a section.
    pub(crate) fn struct_pages(self, first: Pfn, pages: usize) -> core::ops::Range<*const Page> {
        self.section(first).pages[first.index()..first.index() + pages].as_ptr_range()
    }

    /// The address of the page's memory.
    #[inline]
    pub(crate) fn address(self, pfn: Pfn) -> NonNull<u8> {
        let section = self.section(pfn);
        let address = ((section.slot as usize) << SECTION_SHIFT) + (pfn.index() << PAGE_SHIFT);
        let pointer = core::ptr::with_exposed_provenance_mut(address);
        bug_on_null(NonNull::new(pointer))
    }

    #[inline]
    fn section(self, pfn: Pfn) -> &'static Section {
        section_by_number(pfn.section().into())
    }
}

impl Links for MemMap {
    #[inline]
    fn link(&self, element: NonZeroU32) -> &Link {
        match Pfn::from_raw(element.get()) {
            Some(pfn) => &self.page(pfn).link,
            None => bug("bug: a link of page 0"),
        }
    }
}

#[inline]
fn bug_on_null<T>(pointer: Option<T>) -> T {
    match pointer {
        Some(pointer) => pointer,
        None => bug("bug: a page at address 0"),
    }
}

#[inline]
fn section_by_number(number: usize) -> &'static Section {
    // `number` is 16 bits, and the table has 2^16 entries.
    let section = handoff::published(&SECTIONS[number & (NR_SECTIONS - 1)]);
    bug_on!(section.is_null(), "a page of no section: a link was overwritten");
    // SAFETY: a non-null entry is a mapped, zeroed and filled `Section` that is never unmapped; it is made of
    // atomics and of fields that do not change after publication.
    unsafe { &*section }
}

/// The section that holds `address`, `None` where no arena has touched it.
#[inline(always)]
fn section_of(address: usize) -> Option<&'static Section> {
    let entry = TABLE.get(address >> SECTION_SHIFT)?;
    // SAFETY: as in `section_by_number`.
    unsafe { handoff::published(entry).as_ref() }
}

/// The page that holds `address`, `None` where no arena has touched the section.
#[inline(always)]
pub(crate) fn page_of(address: usize) -> Option<&'static Page> {
    Some(&section_of(address)?.pages[(address >> PAGE_SHIFT) & (PAGES_PER_SECTION - 1)])
}

/// The number of the page that holds `address`.
#[inline]
pub(crate) fn pfn_of(address: usize) -> Option<Pfn> {
    Pfn::new(section_of(address)?.number as u16, (address >> PAGE_SHIFT) & (PAGES_PER_SECTION - 1))
}

/// The sections that exist, as the first page of each.
pub(crate) fn sections() -> impl Iterator<Item = Pfn> {
    // Relaxed: whoever looks for pages of a zone holds its lock, or is the last to use it, and so came after the
    // sections that it has.
    let numbers = (NUMBERS.load(Ordering::Relaxed) as usize).min(NR_SECTIONS - 1);
    (1..=numbers)
        // A number that was only just given out has no section yet.
        .filter(|number| !handoff::published(&SECTIONS[*number]).is_null())
        .filter_map(|number| Pfn::new(number as u16, 0))
}

/// Makes sure that the sections of `length` bytes from `address` on exist. False where there is no memory for
/// their pages, or where the addresses are beyond the table.
pub(crate) fn cover(address: NonNull<u8>, length: usize) -> bool {
    let start = address.as_ptr().expose_provenance();
    let Some(last) = start.checked_add(length - 1) else { return false };
    (start >> SECTION_SHIFT..=last >> SECTION_SHIFT).all(|slot| {
        TABLE.get(slot).is_some_and(|entry| !handoff::published(entry).is_null() || make(slot, entry))
    })
}

#[cold]
fn make(slot: usize, entry: &AtomicPtr<Section>) -> bool {
    let Some(length) = map::round_to_os_page(size_of::<Section>()) else { return false };
    let Some(memory) = map::map(length, PAGE_SIZE) else { return false };
    map::advise_hugepages(memory, length, false);
    map::leave_out_of_dumps(memory, length);
    let section: NonNull<Section> = memory.cast();
    // Relaxed: at worst two threads advise.
    if NUMBERS.load(Ordering::Relaxed) == 0 {
        keep_tables_small();
    }
    // Relaxed: only uniqueness counts here.
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed) as usize + 1;
    if number >= NR_SECTIONS {
        NUMBERS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: mapped just now and known to nobody else.
        unsafe { map::unmap(memory, length) };
        return false;
    }
    // SAFETY: the mapping is large enough, aligned to a page and zeroed; nobody else knows it yet.
    let fields = unsafe { &mut *section.as_ptr() };
    fields.slot = slot as u32;
    fields.number = number as u32;
    handoff::publish(&SECTIONS[number], section.as_ptr());
    // Where another thread was first, its section serves, and this one stays, empty and known by its number
    // only: somebody may be walking the numbers.
    handoff::publish(entry, section.as_ptr());
    true
}

/// Keeps the tables themselves off hugepages where those come unasked: one touched entry would cost 2 MiB.
fn keep_tables_small() {
    fn advise<T>(table: &'static [T]) {
        let page = map::os_page_size();
        let start = table.as_ptr().expose_provenance().next_multiple_of(page);
        let end = table.as_ptr_range().end.addr() & !(page - 1);
        if let Some(address) = NonNull::new(core::ptr::with_exposed_provenance_mut(start)) {
            map::advise_hugepages(address, end.saturating_sub(start), false);
        }
    }
    advise(&TABLE);
    advise(&SECTIONS);
    advise(&class_map::PARTS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pfn::PAGEBLOCK_SIZE;

    #[test]
    fn an_address_leads_to_its_page_and_back() {
        let memory = map::map(PAGEBLOCK_SIZE, PAGEBLOCK_SIZE).expect("memory");
        assert!(cover(memory, PAGEBLOCK_SIZE));
        for offset in [0, 1, 4095, 4096, PAGEBLOCK_SIZE - 1] {
            let address = memory.as_ptr().addr() + offset;
            let pfn = pfn_of(address).expect("a section");
            assert_eq!(MemMap.address(pfn).as_ptr().addr(), address & !4095);
            assert!(core::ptr::eq(MemMap.page(pfn), page_of(address).expect("a page")));
        }
    }

    #[test]
    fn other_addresses_lead_nowhere() {
        assert!(page_of(0).is_none());
        assert!(page_of(usize::MAX).is_none());
        assert!(page_of(1 << VA_BITS).is_none());
    }

    #[test]
    fn racing_makers_agree() {
        let slot_address = 0x1234 << SECTION_SHIFT;
        let address =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(slot_address)).unwrap().addr();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let pointer =
                        NonNull::new(core::ptr::with_exposed_provenance_mut(address.get())).unwrap();
                    assert!(cover(pointer, 4096));
                    pfn_of(address.get())
                })
            })
            .collect();
        let found: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(found.iter().all(|pfn| pfn.is_some() && *pfn == found[0]));
    }
}
