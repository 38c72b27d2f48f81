//! What to say of a pointer that is not the start of a block: what was tried, what the address is instead, and
//! where. Nothing here is on any path of a correct program, so it may look around.
#![forbid(unsafe_code)]

use core::ptr::NonNull;

use super::registry;
use crate::base::pfn::{PAGE_SIZE, Pfn};
use crate::page::buddy::pfn;
use crate::page::dedicated;
use crate::page::mm_types::Kind;
use crate::page::section::{MemMap, pfn_of};
use crate::sys::bug::Line;

/// What an address is that is not the start of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Not memory of ours.
    Foreign,
    /// Inside a block.
    Interior,
    /// In memory that is free.
    Free,
}

/// Finds out what an address is.
pub(crate) fn what_is(address: usize) -> Address {
    let Some(page) = pfn_of(address) else { return in_dedicated(address) };
    if MemMap.pageblock(page).zone() == 0 {
        return in_dedicated(address);
    }
    // Back to the page that says what this one is part of: a block starts at most a section away.
    let starts = (0..=page.index()).rev().filter_map(|index| Pfn::new(page.section(), index));
    for start in starts {
        let first = MemMap.page(start);
        let pages = page.index() - start.index();
        let word = first.word();
        match word.kind() {
            Kind::Nothing => continue,
            Kind::Run if pages < first.run_pages() => return Address::Interior,
            Kind::Slab => return Address::Interior,
            _ => return Address::Free,
        }
    }
    Address::Free
}

/// Dedicated mappings write only their first page down, so they are asked for one by one.
fn in_dedicated(address: usize) -> Address {
    let registry = registry::lock();
    let global = registry::by_id(registry::GLOBAL_ID);
    for state in global.into_iter().chain(registry::others(&registry)) {
        let buddy = state.zones.first.buddy.lock();
        for element in buddy.dedicated.iter(&MemMap) {
            let start = MemMap.address(pfn(element)).as_ptr().addr();
            if (start..start + dedicated::length_of(pfn(element))).contains(&address) {
                return Address::Interior;
            }
        }
    }
    Address::Foreign
}

/// A large object that comes out of a sheaf starts with a page. One that does not was freed by a pointer into it:
/// handing it out would give its neighbour's memory away.
#[inline]
pub(crate) fn whole(object: NonNull<u8>) -> NonNull<u8> {
    if !object.as_ptr().addr().is_multiple_of(PAGE_SIZE) {
        report("free", object.as_ptr().addr());
    }
    object
}

/// Says what was wrong and ends the process. `what` is `free`, `realloc` or `malloc_usable_size`.
#[cold]
#[inline(never)]
pub(crate) fn report(what: &str, address: usize) -> ! {
    let line = Line::new();
    let line = match (what_is(address), what) {
        (Address::Free, "free") => line.text("double free at "),
        (Address::Free, _) => line.text(what).text(" of a freed pointer at "),
        (Address::Interior, _) => line.text(what).text(" of an interior pointer at "),
        (Address::Foreign, _) => line.text(what).text(" of a foreign pointer at "),
    };
    line.hex(address).abort()
}
