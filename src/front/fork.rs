//! Forks: the locks of every instance are taken before and released after, in one order, so that the child finds
//! none held by a thread that it does not have. `growing` and `purging` are not: the child resets them.
//!
//! Registered when the global instance starts, before any handler of the program: prepare handlers run in
//! reverse order, so those of the program may still allocate, and after the fork ours run first. `vfork`,
//! `posix_spawn` and `clone` run no handlers and need none. A lock that the forking thread itself holds (it
//! forks from a signal handler that interrupted us) is skipped.
#![forbid(unsafe_code)]

use super::background;
use super::registry::{self, GLOBAL_ID};
use super::state::State;
use super::thread;
use crate::page::zone::Zone;
use crate::sys::bug::Line;
use crate::sys::thread::at_fork;

/// The fork handlers, registered once.
pub(crate) fn register() {
    if !at_fork(prepare, parent, child) {
        Line::new().text("no memory for fork handlers; children of this process may hang in malloc").print();
    }
}

extern "C" fn prepare() {
    registry::registry().fork_prepare();
    for_each(State::fork_prepare);
}

extern "C" fn parent() {
    for_each(State::fork_release);
    registry::registry().fork_release();
}

extern "C" fn child() {
    for_each(State::fork_release);
    for_each(|state| {
        state.zones.iter().for_each(Zone::fork_child);
        state.forget_other_threads(thread::existing(state));
        state.ask_again();
    });
    background::on_fork();
    registry::registry().fork_release();
}

/// Runs `work` on every instance. The registry's lock is held, or the thread is in one of the handlers.
fn for_each(work: impl Fn(&State)) {
    for id in (GLOBAL_ID..).take(registry::NR_INSTANCES - 1) {
        if let Some(state) = registry::by_id(id) {
            work(state);
        }
    }
}
