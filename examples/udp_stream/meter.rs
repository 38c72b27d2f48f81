//! What a run takes: time, CPU time, and the zone's lock.

use std::time::{Duration, Instant};

use pcpmalloc::{Instance, LockStat, instance_zoneinfo};

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// An allocation and its free each: for a stream, a message.
    pub operations: u64,
    pub wall: Duration,
    /// Of all threads of the process.
    pub cpu: Duration,
    /// Times the zone's lock was taken.
    pub zone_locks: u64,
    /// Times somebody had to wait for it.
    pub zone_waits: u64,
}

impl Figures {
    /// Of `work`, which does so many operations on the instance.
    pub fn of(instance: &Instance, operations: u64, work: impl FnOnce()) -> Self {
        let (locks, cpu, start) = (zone_lock(instance), cpu_time(), Instant::now());
        work();
        let (wall, cpu_end, locks_end) = (start.elapsed(), cpu_time(), zone_lock(instance));
        Self {
            operations,
            wall,
            cpu: cpu_end - cpu,
            zone_locks: locks_end.acquisitions - locks.acquisitions,
            zone_waits: locks_end.contentions - locks.contentions,
        }
    }

    /// Of one operation, as all below.
    pub fn wall_ns(&self) -> f64 {
        self.wall.as_nanos() as f64 / self.operations as f64
    }

    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.operations as f64
    }

    pub fn locks_per_1000(&self) -> f64 {
        self.zone_locks as f64 * 1000.0 / self.operations as f64
    }

    pub fn waits_per_1000(&self) -> f64 {
        self.zone_waits as f64 * 1000.0 / self.operations as f64
    }
}

fn zone_lock(instance: &Instance) -> LockStat {
    instance.lock_stat().into_iter().find(|stat| stat.name == "zone").expect("a zone has a lock")
}

/// Pages that wait on the lists of all threads.
pub fn pages_on_lists(instance: &Instance) -> u64 {
    let mut report = String::new();
    instance_zoneinfo(instance, &mut report).expect("a string takes all");
    let counts = report.lines().filter_map(|line| line.trim().strip_prefix("count: "));
    counts.map(|count| count.parse::<u64>().expect("a number")).sum()
}

/// CPU time of the process so far.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours to be written.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "every process has a CPU clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
