//! Threads that start together under the meter, each bound to a CPU. Left alone, the scheduler at times runs two short
//! ones on the same CPU, and then nothing of what they do meets.

use std::sync::Barrier;
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::meter::{Figures, measure};

/// What one thread does.
pub type Member<'env> = Box<dyn FnOnce() + Send + 'env>;

/// Runs each member on a thread of its own, with the CPUs dealt out in turn.
pub fn measure_crew<'env>(work: u64, members: Vec<Member<'env>>) -> Figures {
    let start = &Barrier::new(members.len() + 1);
    thread::scope(|scope| {
        let spawn = |(number, member): (usize, Member<'env>)| {
            scope.spawn(move || {
                bind_to_cpu(number);
                start.wait();
                member();
            })
        };
        let threads: Vec<_> = members.into_iter().enumerate().map(spawn).collect();
        measure(work, || {
            start.wait();
            threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
        })
    })
}

/// Binds this thread to one of the CPUs that the process may use.
fn bind_to_cpu(number: usize) {
    let allowed = sched_getaffinity(None).expect("a thread may ask where it runs");
    let cpus = || (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(cpus().nth(number % cpus().count()).expect("a number below the count"));
    sched_setaffinity(None, &one).expect("a thread may keep to one of its CPUs");
}
