//! The knobs, as plain values. `front/settings.rs` reads them from the environment; the layers below are given
//! the ones that they need.
#![forbid(unsafe_code)]

/// What backs the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hugepages {
    /// Transparent hugepages, once the heap has grown past a few MiB; small programs stay on small pages.
    Thp = 0,
    /// The system's pool of 2 MiB pages (`vm.nr_hugepages`), faulted in when mapped; `Thp` with one warning
    /// where the pool is too small.
    Hugetlb = 1,
    /// Small pages only.
    Off = 2,
}

/// What happens with a pointer that is not ours in `free`, `realloc` and `malloc_usable_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Foreign {
    /// One line and an abort, except for memory of the brk heap that was there before this allocator.
    Abort = 0,
    /// It goes to the next allocator in the order of symbol search.
    Forward = 1,
}

/// What a core dump holds of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dump {
    /// All of it, and no advice is given to the system.
    All = 0,
    /// Neither the allocator's records nor what was never used or was given back. Each border between the one and the
    /// other splits a mapping, of which a process has 65,530.
    Used = 1,
}

/// All knobs of an instance. Each has a builder method on [`PcpMalloc`](crate::PcpMalloc) and a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// What backs the heap (`PCPMALLOC_HUGEPAGES`).
    pub hugepages: Hugepages,
    /// What happens with foreign pointers (`PCPMALLOC_FOREIGN`).
    pub foreign: Foreign,
    /// Whether orders 1-3 and 9 stay on the page lists of threads, or only order 0
    /// (`PCPMALLOC_PCP_HIGH_ORDERS`).
    pub pcp_high_orders: bool,
    /// Whether pageblocks are grouped by how long their memory is likely to stay (`PCPMALLOC_GROUP_BY_MOBILITY`).
    pub group_by_mobility: bool,
    /// Whether the heap's state is printed to stderr at exit (`PCPMALLOC_VERBOSE`).
    pub verbose: bool,
    /// The most pages that a thread's page lists hold, order 9 not counted; 0 lets it follow demand
    /// (`PCPMALLOC_PCP_HIGH`).
    pub pcp_high: u32,
    /// Pages moved under one hold of the zone lock; 0 for 63, and 15 while the heap is below 16 MiB
    /// (`PCPMALLOC_PCP_BATCH`).
    pub pcp_batch: u32,
    /// Bytes of free memory that stay mapped whatever the heap's size; above it an eighth of the live heap
    /// (`PCPMALLOC_SLACK`).
    pub slack: usize,
    /// Bytes that may be in use, caches of threads included, or free and still backed; `usize::MAX` for no limit
    /// (`PCPMALLOC_LIMIT`).
    pub limit: usize,
    /// Per cent of the memory that the process may have, its cgroup's limit or else the machine's, that may be in
    /// use; 0 for no such limit (`PCPMALLOC_LIMIT`). Of two limits the smaller one holds.
    pub limit_percent: u8,
    /// Milliseconds from one look of the background thread to the next, 0 for no such thread. The process's: in the
    /// settings of an instance it says nothing (`PCPMALLOC_BACKGROUND`).
    pub background: u32,
    /// Whether that thread watches for memory pressure of the cgroup or the machine; the process's too
    /// (`PCPMALLOC_WATCH`).
    pub watch: bool,
    /// What core dumps hold; the process's too (`PCPMALLOC_DUMP`).
    pub dump: Dump,
}

impl Config {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            hugepages: Hugepages::Thp,
            foreign: Foreign::Abort,
            pcp_high_orders: true,
            group_by_mobility: true,
            verbose: false,
            pcp_high: 0,
            pcp_batch: 0,
            slack: 8 << 20,
            limit: usize::MAX,
            limit_percent: 0,
            background: 0,
            watch: false,
            dump: Dump::All,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
