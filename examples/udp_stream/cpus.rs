//! Threads on CPUs of their own. Where the scheduler puts two threads decides more about what passes between them than
//! anything measured here, and it changes its mind. `taskset -c 0` puts all on one CPU.
//!
//! A thread starts where the one that starts it may be, so that one is pinned after the others have been started.

use std::mem;

use libc::cpu_set_t;

/// The calling thread stays on one CPU as long as this lives.
pub struct Pinned {
    before: cpu_set_t,
}

impl Pinned {
    /// To the `index`-th of the CPUs that the thread may use, and round again where there are fewer.
    pub fn to(index: usize) -> Self {
        let before = allowed();
        let is_allowed = |cpu: &usize| {
            // SAFETY: the number is below the set's size.
            unsafe { libc::CPU_ISSET(*cpu, &before) }
        };
        let cpus: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(is_allowed).collect();
        let mut one = none();
        // SAFETY: the number is one of a set of the same size.
        unsafe { libc::CPU_SET(cpus[index % cpus.len()], &mut one) };
        allow(&one);
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        allow(&self.before);
    }
}

fn none() -> cpu_set_t {
    // SAFETY: bits only, which may all be 0.
    unsafe { mem::zeroed() }
}

fn allowed() -> cpu_set_t {
    let mut cpus = none();
    // SAFETY: a set to be written, and its size; 0 is the calling thread.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &raw mut cpus) };
    assert_eq!(done, 0, "a thread may be somewhere");
    cpus
}

fn allow(cpus: &cpu_set_t) {
    // SAFETY: a set, and its size; 0 is the calling thread.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), cpus) };
    assert_eq!(done, 0, "a thread may stay where it may be");
}
