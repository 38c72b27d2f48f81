//! What happened at the locks, by layer (Linux: `/proc/lock_stat`).
#![forbid(unsafe_code)]

use crate::front::global;
use crate::front::instance::Instance;
use crate::front::state::State;
use crate::page::zone::Zone;
use crate::sys::lock_stat::LockStat;

/// Kinds of locks.
const NR_KINDS: usize = 8;

/// What happened at the heap's locks since its start, a line a kind: the zone's own lock and those for growing and
/// for purging it; the nodes (slabs) and barns of all classes; the pool of sheaves; the list of threads; and the
/// allocator's own records. How long they were held is measured with the feature `lock-stat` only.
pub fn lock_stat() -> [LockStat; NR_KINDS] {
    of(global::ready())
}

impl Instance {
    /// As [`lock_stat`], of this instance.
    pub fn lock_stat(&self) -> [LockStat; NR_KINDS] {
        of(self.state())
    }
}

fn of(state: &State) -> [LockStat; NR_KINDS] {
    let one = |name, stat| LockStat { name, ..stat };
    let zones = |stat: fn(&Zone) -> LockStat| state.zones.iter().map(stat);
    let caches = || state.slabs.iter().flat_map(|slabs| &slabs.caches);
    [
        LockStat::sum("zone", zones(|zone| zone.buddy.stat())),
        LockStat::sum("growing", zones(|zone| zone.growing.stat())),
        LockStat::sum("purging", zones(|zone| zone.purging.stat())),
        LockStat::sum("node", caches().map(|cache| cache.node.stat())),
        LockStat::sum("barn", caches().map(|cache| cache.barn.stat())),
        one("pool", state.pool.lock_stat()),
        one("threads", state.threads.stat()),
        one("meta", state.meta.lock_stat()),
    ]
}
