//! Memory nodes (NUMA): from which node's zone a thread is served.
//!
//! An instance starts with one zone, node 0's. Once the heap has grown to 8 MiB and the machine turns out to have
//! several nodes, each gets a zone and kmem caches of its own. From then on a thread's misses are served by the node
//! that it runs on; whatever is freed goes back to the node that its page names. Where a node has nothing to give,
//! first room under the limit is moved to it, then the other nodes are asked. Mappings of their own are not bound:
//! they are one thread's array or another's, and who touches them first decides, as without this allocator; node 0's
//! zone keeps them.
#![forbid(unsafe_code)]

use super::state::State;
use super::thread::ThreadCache;
use crate::base::topology::{MAX_NODES, Topology};
use crate::page::page_alloc::PageAlloc;
use crate::page::pcp::Pcp;
use crate::page::per_node::Record;
use crate::page::zone::Zone;
use crate::slab::kmem_cache::KmemCaches;
use crate::sys::numa;
use crate::sys::sync::Ordering;

/// Adds the nodes that the machine has processors at.
fn add_machine(topology: &mut Topology) {
    numa::nodes(|id| {
        let node = topology.add_node(id as u16);
        numa::cpus_of(id, |cpu| topology.put_cpu(cpu, node));
    });
}

impl State {
    /// Makes a zone for each node of the machine. Not where somebody else sees to where memory comes from.
    pub(super) fn fit_nodes(&self) {
        // In a fork's child of one that has them it is asked again.
        if !self.zones.is_one() {
            return;
        }
        let mut count = 0;
        numa::nodes(|_| count += 1);
        if count > 1 && !numa::has_policy() {
            self.set_topology(&add_machine);
        }
    }

    /// Makes a zone for each node that `add` adds. For want of memory there may be fewer: then node 0 serves for those
    /// that lack. Where there are several nodes already, those stay. Large values are made where they stay: whoever
    /// allocates may have little stack.
    pub(super) fn set_topology(&self, add: &dyn Fn(&mut Topology)) {
        let Some(mut record) = Record::new(Topology::ONE, &self.meta) else { return };
        let topology = record.get();
        add(topology);
        let nodes = topology.nodes();
        if nodes == 1 {
            return;
        }
        let first = &self.zones.first;
        let id = topology.id(0);
        let made = |node: usize| {
            let slabs = KmemCaches::for_node(&self.meta)?;
            Some((slabs, first.on_node(node, topology.id(node), nodes, &self.meta)?))
        };
        let records: [_; MAX_NODES] =
            core::array::from_fn(|node| if (1..nodes).contains(&node) { made(node) } else { None });
        // A fork takes this lock first and gives it back last, so it finds all nodes or none.
        let _threads = self.threads.lock();
        if !self.zones.is_one() {
            return;
        }
        first.settle(id, nodes);
        self.topology.publish(record);
        let made = records.into_iter().enumerate().skip(1).map_while(|(node, record)| Some((node, record?)));
        for (node, (slabs, zone)) in made {
            self.slabs.publish(node, slabs);
            self.zones.publish(node, zone);
        }
    }

    /// The zone of the node that the thread runs on, which from now on its page lists serve too.
    #[cold]
    #[inline(never)]
    pub(super) fn zone_here(&self, pcp: Option<&mut Pcp>) -> &Zone {
        let node = self.topology.get().map_or(0, |topology| topology.node_of(numa::current_cpu()));
        let zone = self.zones.of(node);
        if let Some(pcp) = pcp
            && pcp.node() != zone.node()
        {
            pcp.move_to(zone.node(), self.zones.of(pcp.node()), &self.budget);
        }
        zone
    }

    /// The page allocator of one node's zone, whatever node the thread is on: without page lists.
    pub(crate) fn with_pages_of<R>(&self, zone: &Zone, work: impl FnOnce(&mut PageAlloc<'_>) -> R) -> R {
        work(&mut PageAlloc { zone, zones: Some(&self.zones), budget: &self.budget, pcp: None })
    }

    /// Takes pages from the thread's node, and where that has none from others. `None` means that no node has any.
    #[inline]
    pub(crate) fn take_pages<R>(
        &self,
        cache: Option<&ThreadCache>,
        mut take: impl FnMut(&mut PageAlloc<'_>) -> Option<R>,
    ) -> Option<R> {
        let found = self.with_pages(cache, &mut take);
        if found.is_some() || self.zones.is_one() {
            return found;
        }
        self.take_elsewhere(cache, &mut take)
    }

    #[cold]
    #[inline(never)]
    fn take_elsewhere<R>(
        &self,
        cache: Option<&ThreadCache>,
        take: &mut dyn FnMut(&mut PageAlloc<'_>) -> Option<R>,
    ) -> Option<R> {
        let here = self.zone_here(None);
        let found = self.with_moved_limit(here, || self.with_pages(cache, &mut *take));
        if found.is_some() {
            return found;
        }
        let mut others = self.zones.iter().filter(|zone| zone.id != here.id);
        let found = others.find_map(|zone| self.with_pages_of(zone, &mut *take));
        self.numa_misses.fetch_add(found.is_some().into(), Ordering::Relaxed);
        found
    }

    /// Tries again after more and more room under the limit was moved to a zone, if that may be what it lacks.
    fn with_moved_limit<R>(&self, zone: &Zone, mut again: impl FnMut() -> Option<R>) -> Option<R> {
        [false, true].into_iter().take_while(|_| zone.is_limited()).find_map(|all| {
            self.zones.move_limit(zone, all);
            again()
        })
    }

    /// Runs `work` on the zone that keeps mappings of their own, with as much of the limit as it needs.
    pub(super) fn within_limit<R>(&self, mut work: impl FnMut(&Zone) -> Option<R>) -> Option<R> {
        let zone = &self.zones.first;
        let found = work(zone);
        if found.is_some() || self.zones.is_one() {
            return found;
        }
        self.with_moved_limit(zone, || work(zone))
    }
}
