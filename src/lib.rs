//! Linux's page allocator and slab allocator, inside one process.
//!
//! ```no_run
//! use pcpmalloc::PcpMalloc;
//!
//! #[global_allocator]
//! static GLOBAL: PcpMalloc = PcpMalloc::new();
//! # fn main() {}
//! ```
//!
//! Arenas backed by hugepages are cut into 2 MiB pageblocks under a buddy allocator; page orders 0-3 and 9 are
//! served from page lists of each thread, and objects from sheaves of each thread, so that neither meets
//! a global lock. docs/ARCHITECTURE.md has the whole picture.
//!
//! [`PcpMalloc`] is the handle of the process's heap, [`Instance`] a heap of its own; [`c`] holds what the C
//! functions mean, which `examples/preload` exports as `libpcpmalloc.so`.
#![cfg_attr(not(any(test, loom)), no_std)]

pub(crate) mod sys;

#[cfg(not(loom))]
pub(crate) mod base;
#[cfg(not(loom))]
pub(crate) mod front;
#[cfg(not(loom))]
pub(crate) mod page;
#[cfg(not(loom))]
pub(crate) mod report;
#[cfg(not(loom))]
pub(crate) mod slab;

#[cfg(not(loom))]
mod exports {
    pub use crate::base::config::{Config, Dump, Foreign, Hugepages};
    pub use crate::base::pfn::Migratetype;
    pub use crate::front::global::PcpMalloc;
    pub use crate::front::instance::Instance;
    pub use crate::front::validate::Usage;
    pub use crate::page::buddy::ZoneEvents;
    pub use crate::page::validate::{Census, Violation};
    pub use crate::report::{
        abort_on_panic, buddyinfo, instance_buddyinfo, instance_slabinfo, instance_zoneinfo, lock_stat,
        slabinfo, validate, zoneinfo,
    };
    pub use crate::sys::lock_stat::LockStat;

    /// What the C functions mean, as plain functions.
    pub mod c {
        pub use crate::front::c::*;
        pub use crate::report::c_stats::*;
    }

    /// Faults on demand, for tests: see [`arm`](fault::arm).
    #[doc(hidden)]
    pub mod fault {
        pub use crate::sys::fault::{Call, arm, left};
    }
}

#[cfg(not(loom))]
pub use exports::*;

/// What loom checks in tests/loom.rs.
#[cfg(loom)]
#[doc(hidden)]
pub mod loom_exports {
    pub use crate::sys::bracket::Bracket;
    pub use crate::sys::handoff::{publish, published, put, take};
    pub use crate::sys::lock::Lock;
}
