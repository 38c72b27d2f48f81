//! The root of all metadata: a versioned structure from which a reader in another process finds everything.
//! It stands in an ELF section of its own, `pcpmalloc_root`, which the reader looks up in the file that
//! `/proc/PID/maps` names; everything else is reached by address from here and is plain `repr(C)` data.

use super::global::GLOBAL;
use super::registry::{INSTANCES, NR_INSTANCES};
use super::state::State;
use super::thread::ThreadCache;
use crate::base::pfn::{NR_ORDERS, PAGE_SHIFT, PAGEBLOCK_ORDER, SECTION_SHIFT};
use crate::page::mm_types::{Page, Pageblock};
use crate::page::section::{NR_SECTIONS, NR_TABLE, NUMBERS, SECTIONS, Section, TABLE};
use crate::slab::size_class::{CLASSES, NR_CLASSES, SizeClass};
use crate::sys::sync::{AtomicPtr, AtomicU32};

/// Raised with every change of what is reachable from here.
pub const ROOT_VERSION: u32 = 4;

/// Where everything is, and how large its parts are.
#[repr(C)]
pub struct Root {
    magic: [u8; 16],
    version: u32,
    /// Bytes of this structure.
    size: u32,
    table: &'static [AtomicPtr<Section>; NR_TABLE],
    sections: &'static [AtomicPtr<Section>; NR_SECTIONS],
    section_numbers: &'static AtomicU32,
    global: &'static State,
    /// Every instance by its number, but for the global one.
    instances: &'static [AtomicPtr<State>; NR_INSTANCES],
    size_classes: &'static [SizeClass; NR_CLASSES],
    instance_entries: u64,
    table_entries: u64,
    section_entries: u64,
    size_of_section: u32,
    size_of_page: u32,
    size_of_pageblock: u32,
    size_of_state: u32,
    size_of_thread_cache: u32,
    page_shift: u32,
    pageblock_order: u32,
    section_shift: u32,
    orders: u32,
    classes: u32,
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = "pcpmalloc_root"))]
static ROOT: Root = Root {
    magic: *b"pcpmalloc root\0\0",
    version: ROOT_VERSION,
    size: size_of::<Root>() as u32,
    table: &TABLE,
    sections: &SECTIONS,
    section_numbers: &NUMBERS,
    global: &GLOBAL,
    instances: &INSTANCES,
    size_classes: &CLASSES,
    instance_entries: NR_INSTANCES as u64,
    table_entries: NR_TABLE as u64,
    section_entries: NR_SECTIONS as u64,
    size_of_section: size_of::<Section>() as u32,
    size_of_page: size_of::<Page>() as u32,
    size_of_pageblock: size_of::<Pageblock>() as u32,
    size_of_state: size_of::<State>() as u32,
    size_of_thread_cache: size_of::<ThreadCache>() as u32,
    page_shift: PAGE_SHIFT,
    pageblock_order: PAGEBLOCK_ORDER,
    section_shift: SECTION_SHIFT,
    orders: NR_ORDERS as u32,
    classes: NR_CLASSES as u32,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_says_what_it_is() {
        assert!(ROOT.magic.starts_with(b"pcpmalloc root"));
        assert_eq!(ROOT.size as usize, size_of::<Root>());
        assert!(core::ptr::eq(ROOT.global, &raw const GLOBAL));
    }
}
