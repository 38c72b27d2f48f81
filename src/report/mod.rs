//! Layer 5, reports: reading only. The kernel's own formats (buddyinfo, slabinfo, zoneinfo), and the statistics
//! functions of C. Nothing below imports this, and nothing here allocates.
//!
//! Figures are copied under one lock at a time, so a report of a busy heap is not one moment's picture.

pub(crate) mod c_stats;
mod kernel;
mod locks;
mod print;

pub use kernel::{buddyinfo, instance_buddyinfo, instance_slabinfo, instance_zoneinfo, slabinfo, zoneinfo};
pub use locks::lock_stat;
pub use print::abort_on_panic;

use crate::front::global;
use crate::front::validate::Usage;
use crate::page::validate::Violation;

/// Recounts the process's heap: every page, slab, list and cache against its counters. Other threads must not
/// allocate or free meanwhile.
///
/// # Errors
/// The first invariant that does not hold.
pub fn validate() -> Result<Usage, Violation> {
    global::ready().validate()
}

impl core::fmt::Display for Violation {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.address {
            0 => out.write_str(self.what),
            address => write!(out, "{} at {address:#x}", self.what),
        }
    }
}

impl core::error::Error for Violation {}
