//! Layer 1, pure mechanisms: page frame numbers and orders, index-linked lists, the cache budget, settings, memory
//! nodes. Nothing here knows the outside world or keeps state of its own.
#![forbid(unsafe_code)]

pub(crate) mod budget;
pub(crate) mod config;
pub(crate) mod list;
pub(crate) mod pfn;
pub(crate) mod topology;
