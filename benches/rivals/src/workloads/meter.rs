//! The meter around the measured part, and its figures as `compare` reads them.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What the measured part of a workload cost.
pub struct Figures {
    cpu: Duration,
    wall: Duration,
    work: u64,
}

/// Runs the measured part; `work` says how many operations it does.
pub fn measure(work: u64, measured: impl FnOnce()) -> Figures {
    let (cpu, wall) = (process_cpu(), Instant::now());
    measured();
    Figures { cpu: process_cpu() - cpu, wall: wall.elapsed(), work }
}

/// CPU time of all threads of the process so far, ended ones included.
fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("CPU time is not negative")
}

/// The peak of resident memory. Not `ru_maxrss`, which starts at the parent's.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts the peak");
    line.trim().trim_end_matches(" kB").parse().expect("the peak is a number")
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (cpu, wall) = (self.cpu.as_nanos(), self.wall.as_nanos());
        write!(out, "cpu_ns={cpu} wall_ns={wall} peak_kib={} work={}", peak_kib(), self.work)
    }
}
