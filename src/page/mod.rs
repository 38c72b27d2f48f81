//! Layer 2, pages: `struct page`, sections, pageblocks, buddy, zone, page lists of threads, and giving memory
//! back.

pub(crate) mod arena;
pub(crate) mod buddy;
pub(crate) mod class_map;
pub(crate) mod dedicated;
pub(crate) mod discard;
pub(crate) mod dump;
pub(crate) mod fallback;
pub(crate) mod hugepage;
pub(crate) mod meta;
pub(crate) mod mm_types;
pub(crate) mod node;
pub(crate) mod page_alloc;
pub(crate) mod pcp;
pub(crate) mod per_node;
pub(crate) mod purge;
pub(crate) mod run;
pub(crate) mod section;
pub(crate) mod validate;
pub(crate) mod watermark;
pub(crate) mod zone;

#[cfg(test)]
pub(crate) mod tests;
