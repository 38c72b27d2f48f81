//! Zones of several memory nodes: what ties an instance's zones together. A zone on a node binds its arenas to it;
//! the limit, which is the instance's, is divided among the zones, each of which guards its part under its own lock.
#![forbid(unsafe_code)]

use core::ptr::NonNull;

use super::meta::Meta;
use super::per_node::{PerNode, Record};
use super::section::{MemMap, VA_BITS};
use super::zone::{GLOBAL_ZONE, Zone};
use crate::base::pfn::{PAGE_SHIFT, PAGEBLOCK_PAGES, Pfn};
use crate::base::topology::{instance_of, node_of, zone_number};
use crate::sys::numa;
use crate::sys::sync::{AtomicU32, Ordering};

/// Where a zone's memory is.
#[repr(C)]
pub(crate) struct Binding {
    /// What the system calls the node, and 1; 0 where memory is not bound.
    node: AtomicU32,
    /// Arenas that the system refused to bind.
    refused: AtomicU32,
}

impl Binding {
    /// Anywhere.
    pub(crate) const fn none() -> Self {
        Self { node: AtomicU32::new(0), refused: AtomicU32::new(0) }
    }
}

/// Pages that an address space holds: a part of the limit that is as large does not limit.
const MOST_PAGES: usize = 1 << (VA_BITS - PAGE_SHIFT);

/// Whether this is a zone of the global instance.
#[inline]
pub(crate) fn is_global(zone: u16) -> bool {
    instance_of(zone) == GLOBAL_ZONE
}

// Relaxed throughout: knobs and counts that decide nothing about who owns what.

impl Zone {
    /// A zone like this one, which is the instance's first, for one of the further ones of `nodes` nodes. It has no
    /// part of the limit yet. `None` means out of memory.
    pub(crate) fn on_node(&self, node: usize, id: u16, nodes: usize, meta: &Meta) -> Option<Record<Self>> {
        let mut record = Record::new(Self::new(zone_number(self.id, node)), meta)?;
        let zone = record.get();
        zone.take_knobs_of(self);
        zone.limit_pages.store(0, Ordering::Relaxed);
        zone.settle(id, nodes);
        Some(record)
    }

    /// Makes the zone one of `nodes` nodes. From now on new arenas are bound to the node that the system calls `id`.
    pub(crate) fn settle(&self, id: u16, nodes: usize) {
        self.binding.node.store(u32::from(id) + 1, Ordering::Relaxed);
        // The slack is the instance's. But each zone may keep a pageblock, lest it give each one back at once.
        let slack = self.slack_pages.load(Ordering::Relaxed);
        self.slack_pages.store((slack / nodes).max(slack.min(PAGEBLOCK_PAGES)), Ordering::Relaxed);
    }

    /// The index of the zone's node.
    #[inline]
    pub(crate) fn node(&self) -> usize {
        node_of(self.id)
    }

    /// What the system calls the zone's node; 0 where there is but one.
    pub(crate) fn node_id(&self) -> u32 {
        self.binding.node.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Arenas that the system refused to bind to the node.
    pub(crate) fn bind_refused(&self) -> u32 {
        self.binding.refused.load(Ordering::Relaxed)
    }

    /// Binds a new arena, which nothing has touched, to the zone's node. A refusal changes nothing else: memory then
    /// comes from the node of whoever touches it first, mostly the one that asked.
    pub(super) fn bind(&self, address: NonNull<u8>, length: usize) {
        let Some(id) = self.binding.node.load(Ordering::Relaxed).checked_sub(1) else { return };
        if !numa::bind(address, length, id as u16) {
            self.binding.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the limit could be what keeps the zone from giving out more.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit_pages() < MOST_PAGES
    }

    /// Gives up a part of the limit that the zone does not use: half of it, or all. Returns its pages.
    fn cede_limit(&self, all: bool) -> usize {
        let buddy = self.lock();
        let spare = self.limit_pages().saturating_sub(buddy.used_pages());
        let part = if all { spare } else { spare / 2 };
        // Under the lock, as all that compares the limit with what is used.
        self.limit_pages.fetch_sub(part, Ordering::Relaxed);
        part
    }
}

impl PerNode<Zone> {
    /// The zone that a page of the instance's arenas belongs to.
    pub(crate) fn home(&self, page: Pfn) -> &Zone {
        self.of(node_of(MemMap.pageblock(page).zone()))
    }

    /// Moves room under the instance's limit to a zone: half of what each other zone has to spare, or all. At no time
    /// do the parts add up to more than the limit.
    pub(crate) fn move_limit(&self, to: &Zone, all: bool) {
        for from in self.iter().filter(|from| from.id != to.id) {
            to.limit_pages.fetch_add(from.cede_limit(all), Ordering::Relaxed);
            // What is free and backed there counts too, and may have no room any more.
            if from.above_limit(&from.lock()) > 0 {
                from.purge_to_limit();
            }
        }
    }
}
