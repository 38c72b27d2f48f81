//! The state of an instance: a zone and its kmem caches for each memory node, the caches of its threads, and where
//! their records come from. The global instance is a static of this type; the others live in mappings of their own.
//!
//! Lock order within an instance: threads, barns and nodes (one at a time), the sheaf pool, growing, purging, buddy,
//! meta. Which pairs are ever held together stands in docs/ARCHITECTURE.md; only `fork.rs` holds more.
#![forbid(unsafe_code)]

use super::background;
use super::decay::Seen;
use super::reclaim::Relief;
use super::thread::Threads;
use crate::base::budget::Budget;
use crate::base::config::Config;
use crate::base::pfn::PAGE_SIZE;
use crate::base::topology::Topology;
use crate::page::meta::Meta;
use crate::page::per_node::{PerNode, Place};
use crate::page::zone::Zone;
use crate::slab::kmem_cache::KmemCaches;
use crate::slab::sheaf::SheafPool;
use crate::sys::bug::Line;
use crate::sys::env;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicBool, AtomicU32, Ordering};

/// Bytes that all thread caches may hold before the machine was asked how much memory it has.
const FIRST_BUDGET: usize = 32 << 20;
/// Arena bytes from which on it is asked.
const ASK_FROM: usize = 8 << 20;
/// The part of the machine's or the cgroup's memory that thread caches may hold.
const BUDGET_PART: usize = 64;
/// The part of the heap's limit that they may hold.
const LIMIT_PART: usize = 16;

/// What the slabs and barns of a class hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassUsage {
    /// Slabs.
    pub(crate) slabs: usize,
    /// Objects that are free in them.
    pub(crate) free: usize,
    /// Objects in barns.
    pub(crate) in_barns: usize,
    /// Sheaves with objects in barns.
    pub(crate) full_sheaves: usize,
}

/// An instance.
#[repr(C)]
pub(crate) struct State {
    /// The instance's number, and its first zone's; 1 is the global one.
    pub(crate) id: u16,
    /// Tells this instance from earlier ones of the same number.
    pub(crate) generation: u32,
    pub(crate) zones: PerNode<Zone>,
    pub(crate) slabs: PerNode<KmemCaches>,
    /// The machine's nodes, once they are known and several.
    pub(crate) topology: Place<Topology>,
    pub(crate) pool: SheafPool,
    pub(crate) meta: Meta,
    pub(crate) budget: Budget,
    pub(crate) threads: Lock<Threads>,
    /// Whether what a grown heap asks for was done: its budget, its memory nodes, and the background thread.
    asked: AtomicBool,
    /// Whether the budget was fitted to the machine.
    fitted: AtomicBool,
    /// What the background thread saw the last time.
    pub(super) seen: Seen,
    pub(crate) verbose: AtomicBool,
    pub(crate) forward: AtomicBool,
    /// Times memory ran out, or was short on the machine, and caches were emptied for it.
    pub(crate) reclaims: AtomicU32,
    pub(crate) relief: Relief,
    /// Times another node's memory served, since the thread's own node had none (Linux: `numa_miss`).
    pub(crate) numa_misses: AtomicU32,
}

// Relaxed throughout: knobs and counts.

impl State {
    pub(crate) const fn new(id: u16, generation: u32) -> Self {
        Self {
            id,
            generation,
            zones: PerNode::new(Zone::new(id)),
            slabs: PerNode::new(KmemCaches::new()),
            topology: Place::empty(),
            pool: SheafPool::new(),
            meta: Meta::new(),
            budget: Budget::new(FIRST_BUDGET as isize),
            threads: Lock::new(Threads::new()),
            asked: AtomicBool::new(false),
            fitted: AtomicBool::new(false),
            seen: Seen::new(),
            verbose: AtomicBool::new(false),
            forward: AtomicBool::new(false),
            reclaims: AtomicU32::new(0),
            relief: Relief::new(),
            numa_misses: AtomicU32::new(0),
        }
    }

    pub(crate) fn configure(&self, config: &Config) {
        let config = &Config { limit: config.limit.min(limit_of_percent(config.limit_percent)), ..*config };
        self.zones.first.configure(config);
        // What idle threads keep in their main sheaves nobody can take: a limit must not be used up by it.
        let most = config.limit / LIMIT_PART;
        if most < FIRST_BUDGET {
            self.budget.set_total(most);
            self.fitted.store(true, Ordering::Relaxed);
        }
        self.verbose.store(config.verbose, Ordering::Relaxed);
        self.forward.store(config.foreign == crate::base::config::Foreign::Forward, Ordering::Relaxed);
    }

    /// Fits budget and memory nodes to the machine and starts the background thread, once the heap is large enough for
    /// that to matter: reading the system's files would only slow small programs down. The caller holds no lock and is
    /// not within its cache yet, since starting a thread allocates.
    #[inline]
    pub(crate) fn fit_machine(&self) {
        if self.zones.first.mapped_pages() >= ASK_FROM / PAGE_SIZE
            && !self.asked.load(Ordering::Relaxed)
            && !self.asked.swap(true, Ordering::Relaxed)
        {
            self.ask();
        }
    }

    /// In a fork's child: the background thread is to be started again.
    pub(crate) fn ask_again(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    #[cold]
    fn ask(&self) {
        if !self.fitted.swap(true, Ordering::Relaxed) {
            self.fit();
        }
        self.fit_nodes();
        background::start();
    }

    fn fit(&self) {
        let Some(memory) = env::usable_memory() else { return };
        let budget = (memory / BUDGET_PART).min(self.zones.first.limit_pages() / LIMIT_PART * PAGE_SIZE);
        self.budget.set_total(budget);
    }

    /// What the slabs and barns of a class hold, of all nodes.
    pub(crate) fn class_usage(&self, class: usize) -> ClassUsage {
        let mut usage = ClassUsage::default();
        for cache in self.slabs.iter().map(|slabs| &slabs.caches[class]) {
            let node = cache.node.lock();
            usage.slabs += node.slabs;
            usage.free += node.free;
            drop(node);
            let barn = cache.barn.lock();
            usage.in_barns += barn.objects();
            usage.full_sheaves += barn.counts().0;
        }
        usage
    }

    /// Takes every lock of the instance before a fork.
    pub(crate) fn fork_prepare(&self) {
        self.threads.fork_prepare();
        // Under `threads`, so that no node comes between this and the release.
        self.slabs.iter().for_each(KmemCaches::fork_prepare);
        self.pool.fork_prepare();
        self.zones.iter().for_each(Zone::fork_prepare);
        self.meta.fork_prepare();
    }

    /// Releases them in parent and child.
    pub(crate) fn fork_release(&self) {
        self.meta.fork_release();
        self.zones.iter().for_each(Zone::fork_release);
        self.pool.fork_release();
        self.slabs.iter().for_each(KmemCaches::fork_release);
        self.threads.fork_release();
    }
}

/// Bytes that this many per cent of the process's memory are; no limit for 0. Only with a number are files read.
fn limit_of_percent(percent: u8) -> usize {
    if percent == 0 {
        return usize::MAX;
    }
    match env::usable_memory() {
        Some(memory) => (memory / 100).saturating_mul(percent.into()),
        None => {
            Line::new()
                .text("a limit in per cent: neither a cgroup nor the machine says of how much; no limit")
                .print();
            usize::MAX
        }
    }
}
