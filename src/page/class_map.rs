//! The class of the object that starts in a page, by address, one byte a page: what the C face's `free` asks.
//!
//! The page's word says the same and more, but 64 bytes of this map cover 256 KiB of heap, where as many of
//! struct pages cover two pages; so frees at random stay in the processor's first cache. Only objects of the
//! global instance are here: everything else reads as 0, "look at the page's word".
//!
//! A part of the map covers 4 GiB of addresses. It is mapped when the first arena touches them, backed by the
//! system as it is written, and never freed. Anybody may read; the owner of a page's block writes.

use core::ptr::NonNull;

use crate::base::pfn::{PAGE_SHIFT, PAGE_SIZE};
use crate::sys::handoff;
use crate::sys::map;
use crate::sys::sync::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

/// log2 of the bytes of address space that a part covers: the register's lower half then is the index.
const PART_SHIFT: u32 = 32;
const PAGES: usize = 1 << (PART_SHIFT - PAGE_SHIFT);
type Part = [AtomicU8; PAGES];

/// Parts for all user addresses.
const NR_PARTS: usize = 1 << (super::section::VA_BITS - PART_SHIFT);

pub(super) static PARTS: [AtomicPtr<Part>; NR_PARTS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_PARTS];

/// The number of the first part that was made, and where it is: that of most or all objects. A free that finds it
/// here waits for one load less than by way of the table. Beyond all numbers until there is one.
static HOME_NUMBER: AtomicUsize = AtomicUsize::new(usize::MAX);
static HOME: AtomicPtr<Part> = AtomicPtr::new(core::ptr::null_mut());

/// The part for an address. Beyond user addresses that of another one, so that no bound need be checked: who
/// frees such a pointer as an object learns of it when the object would go back to its slab.
#[inline(always)]
fn part(address: usize) -> Option<&'static Part> {
    let part = handoff::published(&PARTS[(address >> PART_SHIFT) & (NR_PARTS - 1)]);
    // SAFETY: null, or a mapping of that size, zeroed when made, never unmapped, made of atomics.
    unsafe { part.as_ref() }
}

#[inline(always)]
fn index(address: usize) -> usize {
    address as u32 as usize >> PAGE_SHIFT
}

/// The class of the global instance's object in the page of this address, 0 where there is none; `None` where the
/// address is not in the home part.
///
/// # Safety
/// The address is the start of a block that is in use, or in no arena. Of anything else (a wild pointer) the result
/// means nothing.
#[inline(always)]
pub(crate) unsafe fn class_at_home(address: usize) -> Option<usize> {
    // Acquire: pairs with the Release in `make_home`, so that `HOME` is seen.
    if address >> PART_SHIFT != HOME_NUMBER.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: whoever sees the number sees the part, a mapping that is never unmapped.
    let home = unsafe { &*HOME.load(Ordering::Relaxed) };
    // SAFETY: as the caller's.
    Some(unsafe { class_in(home, address) })
}

/// As `class_at_home`, for any part.
///
/// # Safety
/// As for `class_at_home`.
pub(crate) unsafe fn class_at(address: usize) -> usize {
    // SAFETY: as the caller's.
    part(address).map_or(0, |part| unsafe { class_in(part, address) })
}

/// # Safety
/// As for `class_at_home`.
#[inline(always)]
unsafe fn class_in(part: &Part, address: usize) -> usize {
    // SAFETY: the byte was last written before the block was handed out, by whoever owned its page then, and the page
    // lists, the zone's lock and the program's own synchronisation order the two; it is written again only when the
    // block is free. Bytes outside arenas, and of other instances' arenas, are never written. So no write is
    // concurrent, and the compiler may widen the load as it does not for an atomic one.
    unsafe { part[index(address)].as_ptr().read() }.into()
}

/// As `class_at`, of any address, and 0 where the map does not reach; for recounting.
pub(crate) fn peek(address: usize) -> usize {
    part(address).map_or(0, |part| part[index(address)].load(Ordering::Relaxed).into())
}

/// Writes down the class of the objects of `pages` pages from `address` on, which the caller owns and whose part
/// exists; 0 for none.
pub(crate) fn set(address: usize, pages: usize, class: usize) {
    for page in 0..pages {
        let address = address + (page << PAGE_SHIFT);
        if let Some(part) = part(address) {
            part[index(address)].store(class as u8, Ordering::Relaxed);
        }
    }
}

/// Makes sure that the map covers `length` bytes from `address` on. False where there is no memory for it.
pub(crate) fn cover(address: usize, length: usize) -> bool {
    (address >> PART_SHIFT..=(address + length - 1) >> PART_SHIFT).all(|number| {
        let made = |entry: &AtomicPtr<Part>| !handoff::published(entry).is_null() || make(entry);
        let covered = PARTS.get(number).is_some_and(made);
        if covered {
            make_home(number);
        }
        covered
    })
}

/// Makes a part the home part, if there is none yet.
fn make_home(number: usize) {
    if handoff::publish(&HOME, handoff::published(&PARTS[number])) {
        // Release: pairs with the Acquire in `class_at_home`.
        HOME_NUMBER.store(number, Ordering::Release);
    }
}

#[cold]
fn make(entry: &AtomicPtr<Part>) -> bool {
    let Some(length) = map::round_to_os_page(size_of::<Part>()) else { return false };
    let Some(memory) = map::map(length, PAGE_SIZE) else { return false };
    map::advise_hugepages(memory, length, false);
    map::leave_out_of_dumps(memory, length);
    let memory: NonNull<Part> = memory.cast();
    if !handoff::publish(entry, memory.as_ptr()) {
        // SAFETY: mapped just now; another thread was first, so nobody else knows this one.
        unsafe { map::unmap(memory.cast(), length) };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: usize) -> usize {
        // SAFETY: no arena is at the addresses that the tests use.
        let any = unsafe { class_at(address) };
        // SAFETY: as above.
        let home = unsafe { class_at_home(address) };
        assert!(home.is_none_or(|home| home == any));
        any
    }

    #[test]
    fn classes_are_kept_by_page() {
        // No arena is there: the first pages of user addresses are never mapped.
        let address = 7 << PAGE_SHIFT;
        assert!(cover(address, 3 * PAGE_SIZE));
        set(address, 2, 9);
        assert_eq!(class(address), 9);
        assert_eq!(class(address + 2 * PAGE_SIZE - 1), 9);
        assert_eq!(class(address + 2 * PAGE_SIZE), 0);
        set(address, 2, 0);
        assert_eq!(class(address), 0);
    }

    #[test]
    fn an_arena_may_lie_across_two_parts() {
        let border = 5 << PART_SHIFT;
        assert!(cover(border - PAGE_SIZE, 2 * PAGE_SIZE));
        set(border - PAGE_SIZE, 2, 3);
        assert_eq!((class(border - 1), class(border)), (3, 3));
        set(border - PAGE_SIZE, 2, 0);
    }

    #[test]
    fn no_address_is_out_of_bounds() {
        assert_eq!(class(0), 0);
        // Beyond user addresses the map repeats: that of the same address below.
        let address = (9 << PART_SHIFT) + PAGE_SIZE;
        assert!(cover(address, PAGE_SIZE));
        set(address, 1, 5);
        assert_eq!(class(address | 1 << super::super::section::VA_BITS), 5);
        assert_eq!(class(address | usize::MAX << 60), 5);
        set(address, 1, 0);
        assert!(!cover(1 << super::super::section::VA_BITS, PAGE_SIZE));
    }
}
