//! Mappings of their own: blocks from 32 MiB up, and those aligned to more than a pageblock.
//!
//! The first page's word names the zone and the length; no other page of the mapping is written down, so 100
//! GiB cost one section's struct pages. The zone's lock guards the list of them and their count.

use core::ptr::NonNull;

use super::buddy::{element, pfn};
use super::mm_types::{Kind, Word};
use super::section::{MemMap, cover, pfn_of};
use super::zone::Zone;
use crate::base::pfn::{PAGE_SIZE, PAGEBLOCK_SIZE, Pfn};
use crate::sys::map::{self, Resized};
use crate::sys::sync::Ordering;

/// From this many bytes up a block has a mapping of its own: moving it then costs no copy, and freeing it
/// leaves no hole.
pub(crate) const DEDICATED_FROM: usize = 32 << 20;

/// Bytes of the mapping that starts at this page.
pub(crate) fn length_of(pfn: Pfn) -> usize {
    MemMap.page(pfn).private[0].load(Ordering::Relaxed) as usize
}

impl Zone {
    /// Maps at least `bytes` bytes aligned to `align`; they read as zero.
    pub(crate) fn map_dedicated(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let length = map::round_to_os_page(bytes)?;
        if !self.charge(length) {
            return None;
        }
        let found = map::map(length, align.max(PAGEBLOCK_SIZE)).and_then(|address| {
            if cover(address, PAGE_SIZE) {
                return Some(address);
            }
            // SAFETY: mapped just now, and nobody has its address.
            unsafe { map::unmap(address, length) };
            None
        });
        match found {
            Some(address) => {
                self.enter(address, length);
                if length >= PAGEBLOCK_SIZE {
                    map::advise_hugepages(address, length, self.wants_hugepages());
                }
            }
            None => self.lock().dedicated_pages -= length / PAGE_SIZE,
        }
        found
    }

    /// Unmaps a mapping of this zone.
    ///
    /// # Safety
    /// A mapping of this zone starts at `pfn`, and nobody uses it any more.
    pub(crate) unsafe fn unmap_dedicated(&self, pfn: Pfn) {
        let length = length_of(pfn);
        let address = MemMap.address(pfn);
        self.leave(pfn, length);
        // SAFETY: the caller vouches that it is ours and unused.
        if !unsafe { map::unmap(address, length) } {
            // The kernel lacks room to split a mapping. The address space is lost; its memory need not be.
            // SAFETY: as above; a mapping that nobody knows any more.
            unsafe { map::discard(address, length) };
        }
    }

    /// Makes a mapping of this zone `bytes` long, moving it if it must. `None` leaves it as it was.
    ///
    /// # Safety
    /// A mapping of this zone starts at `pfn`; after success nobody uses the old address, nor what was cut off.
    pub(crate) unsafe fn resize_dedicated(&self, pfn: Pfn, bytes: usize) -> Option<NonNull<u8>> {
        let length = length_of(pfn);
        let new_length = map::round_to_os_page(bytes)?;
        let address = MemMap.address(pfn);
        if new_length == length {
            return Some(address);
        }
        if new_length > length && !self.charge(new_length - length) {
            return None;
        }
        // From here on the pages of the larger of the two lengths are charged.
        // SAFETY: the caller vouches for the mapping and for what is cut off.
        let moved = match unsafe { map::resize(address, length, new_length) } {
            Resized::Done => {
                MemMap.page(pfn).private[0].store(new_length as u64, Ordering::Relaxed);
                self.uncharge(length.saturating_sub(new_length));
                return Some(address);
            }
            Resized::Split => None,
            // SAFETY: as above.
            Resized::NoRoom => unsafe { self.relocate(pfn, length, new_length) },
        };
        // What was charged is the larger of the two; what is left to give up depends on which one stayed.
        self.uncharge(length.max(new_length) - if moved.is_some() { new_length } else { length });
        moved
    }

    /// Moves a mapping of this zone to a place that has room for `new_length` bytes.
    ///
    /// # Safety
    /// As for `resize_dedicated`.
    unsafe fn relocate(&self, pfn: Pfn, length: usize, new_length: usize) -> Option<NonNull<u8>> {
        let target = map::map(new_length, PAGEBLOCK_SIZE)?;
        let address = MemMap.address(pfn);
        // The old place is forgotten before it is free for others to map.
        self.leave(pfn, 0);
        // SAFETY: the caller vouches for the mapping, and the target was made just now.
        if cover(target, PAGE_SIZE) && unsafe { map::move_onto(address, length, target, new_length) } {
            self.enter(target, new_length);
            return Some(target);
        }
        self.enter(address, length);
        // SAFETY: mapped above, and nobody has its address.
        unsafe { map::unmap(target, new_length) };
        None
    }

    /// Unmaps every dedicated mapping of the zone.
    ///
    /// # Safety
    /// Nobody uses the zone or anything in it any more.
    pub(crate) unsafe fn unmap_all_dedicated(&self) {
        loop {
            let first = self.buddy.lock().dedicated.first();
            let Some(first) = first else { return };
            // SAFETY: an element of the list is the first page of a mapping; the caller vouches for the rest.
            unsafe { self.unmap_dedicated(pfn(first)) };
        }
    }

    fn charge(&self, length: usize) -> bool {
        let mut buddy = self.lock();
        let allowed = self.allows(&buddy, length / PAGE_SIZE);
        buddy.dedicated_pages += if allowed { length / PAGE_SIZE } else { 0 };
        let above = self.above_limit(&buddy) > 0;
        drop(buddy);
        if above && allowed {
            self.purge_to_limit();
        }
        allowed
    }

    fn uncharge(&self, length: usize) {
        if length > 0 {
            self.lock().dedicated_pages -= length / PAGE_SIZE;
        }
    }

    /// Writes a mapping down whose section exists and whose pages are charged.
    fn enter(&self, address: NonNull<u8>, length: usize) {
        let Some(pfn) = pfn_of(address.as_ptr().addr()) else { return };
        let page = MemMap.page(pfn);
        page.private[0].store(length as u64, Ordering::Relaxed);
        let mut buddy = self.lock();
        page.set_word(Word::new(Kind::Dedicated, buddy.zone));
        buddy.dedicated.push_back(&MemMap, element(pfn));
    }

    /// Forgets a mapping, and uncharges `length` bytes of it.
    fn leave(&self, pfn: Pfn, length: usize) {
        let mut buddy = self.lock();
        buddy.dedicated.remove(&MemMap, element(pfn));
        buddy.dedicated_pages -= length / PAGE_SIZE;
        MemMap.page(pfn).set_word(Word::NOTHING);
    }
}
