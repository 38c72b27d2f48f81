//! The background reclaimer: a thread for those who want free memory to decay with time, or to go when the kernel
//! says that memory is short (`sys/watch.rs`). Off by default, and then nothing here runs.
//!
//! It is the process's: the first slow path of a heap that has grown starts it, and it serves every instance. It
//! sleeps without waking between its ticks, holds the registry's lock only while it works on an instance that could
//! go, and has no cache of its own. A fork's child does not have it and starts its own as it goes on. It ends with
//! the main thread, since a process whose main thread has called `pthread_exit` lives as long as any thread does.
#![forbid(unsafe_code)]

use core::ffi::c_void;

use super::global::{self, GLOBAL};
use super::registry::{self, GLOBAL_ID, NR_INSTANCES};
use super::state::State;
use crate::base::config::Config;
use crate::sys::bug::Line;
use crate::sys::futex::Futex;
use crate::sys::sync::{AtomicBool, AtomicU32, Ordering};
use crate::sys::thread::{is_main, name_this_thread, spawn_detached};
use crate::sys::watch::{self, Waited, Watch};

/// Milliseconds after everything was given back under pressure in which it is not done again.
const RELIEVED_MS: u32 = 1000;

/// Nobody asked for it, or it could not be started.
const OFF: u32 = 0;
/// To be started when the heap has grown.
const WANTED: u32 = 1;
const RUNNING: u32 = 2;
/// The main thread has ended, and it with it.
const ENDED: u32 = 3;
static PHASE: AtomicU32 = AtomicU32::new(OFF);
/// Milliseconds from one tick to the next.
static PERIOD: AtomicU32 = AtomicU32::new(0);
/// Whether it is to watch for memory pressure.
static WATCH: AtomicBool = AtomicBool::new(false);
/// What the thread sleeps on: 1 when it is to end.
static ENDING: Futex = Futex::new(0);

// Relaxed throughout: starting a thread and waking it order what was written before.

/// Notes what the process's settings ask for.
pub(crate) fn configure(config: &Config) {
    if config.background > 0 || config.watch {
        WATCH.store(config.watch, Ordering::Relaxed);
        PERIOD.store(config.background, Ordering::Relaxed);
        PHASE.store(WANTED, Ordering::Relaxed);
    }
}

/// Starts the thread, if it is wanted and does not run yet. Allocates: the caller holds no lock, and is not within
/// its own cache.
pub(crate) fn start() {
    if PHASE.compare_exchange(WANTED, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    // Without word of the main thread's end it could not end itself.
    if global::exit_key().is_none() || !spawn_detached(run) {
        PHASE.store(OFF, Ordering::Relaxed);
        Line::new()
            .text("the background thread cannot be started; free memory is given back by watermarks only")
            .print();
    }
}

/// A thread that had a cache ends.
pub(crate) fn on_thread_exit() {
    if PHASE.load(Ordering::Relaxed) == RUNNING && is_main() {
        PHASE.store(ENDED, Ordering::Relaxed);
        ENDING.word.store(1, Ordering::Relaxed);
        ENDING.wake();
        watch::wake();
    }
}

/// In a fork's child, which has no such thread and whose only thread is its main one.
pub(crate) fn on_fork() {
    if PHASE.load(Ordering::Relaxed) >= RUNNING {
        watch::close_all();
        ENDING.word.store(0, Ordering::Relaxed);
        PHASE.store(WANTED, Ordering::Relaxed);
    }
}

/// The thread.
extern "C" fn run(_: *mut c_void) -> *mut c_void {
    name_this_thread(c"pcpmalloc");
    let period = PERIOD.load(Ordering::Relaxed);
    let mut watch = if WATCH.load(Ordering::Relaxed) { open_watch() } else { None };
    // Looked at before each wait too: the main thread may have ended before there was anything for it to wake.
    while ENDING.word.load(Ordering::Relaxed) == 0 {
        let waited = match &mut watch {
            Some(watch) => watch.wait(period),
            // A kernel that refuses to wait would make this a loop without end.
            None if period > 0 && ENDING.wait_for(0, period) => Waited::Time,
            None => break,
        };
        if ENDING.word.load(Ordering::Relaxed) != 0 {
            break;
        }
        match waited {
            Waited::Time if period > 0 => for_each(State::decay),
            Waited::Time => {}
            Waited::Pressure => {
                for_each(State::give_way);
                ENDING.wait_for(0, RELIEVED_MS);
            }
            Waited::Lost => {
                Line::new().text("memory pressure cannot be watched any more; going on without").print();
                watch = None;
            }
        }
    }
    watch::close_all();
    core::ptr::null_mut()
}

fn open_watch() -> Option<Watch> {
    let watch = Watch::open();
    if watch.is_none() {
        Line::new()
            .text("PCPMALLOC_WATCH: neither the cgroup nor /proc/pressure tells of memory pressure; going on without")
            .print();
    }
    watch
}

/// Runs `work` on every instance, one at a time.
fn for_each(work: impl Fn(&State)) {
    work(&GLOBAL);
    for id in (GLOBAL_ID + 1..).take(NR_INSTANCES - 1 - usize::from(GLOBAL_ID)) {
        if registry::has(id) {
            let _registry = registry::lock();
            registry::by_id(id).inspect(|state| work(state));
        }
    }
}
