//! Living in a process: before main and after exit, threads coming and going, fork in every situation,
//! limits, system calls that fail, and memory that goes back. Each program runs on the C library's own allocator and
//! then with the library preloaded; what it does is said in its file in `tests/c`.

mod common;

use common::native::{Face, compile, conforms, skipped};

/// Runs start_exit.c, whose exit handler and destructor both must have run to their ends.
fn ends_well(how: &str, expected: &str, times: usize) {
    let Some(program) = compile("start_exit.c", &[]) else { return };
    for face in [Face::Glibc, Face::Ours] {
        for _ in 0..times {
            assert_eq!(program.passes(face, &[how]).as_deref(), Some(expected), "{how} on {face:?}");
        }
    }
}

#[test]
fn constructors_destructors_and_exit_handlers_allocate() {
    ends_well("return", "handler\ndestructor\n", 1);
}

#[test]
fn exit_while_detached_threads_allocate() {
    ends_well("exit", "handler\ndestructor\n", 20);
}

#[test]
fn quick_exit_while_detached_threads_allocate() {
    ends_well("quick", "handler\n", 5);
}

#[test]
fn the_main_thread_ends_first() {
    ends_well("pthread_exit", "handler\ndestructor\n", 5);
}

#[test]
fn twenty_thousand_threads_one_after_another() {
    conforms("threads.c", &["sequence"]);
}

#[test]
fn detached_threads_that_never_allocate() {
    conforms("threads.c", &["detached"]);
}

#[test]
fn a_thousand_threads_at_once() {
    conforms("threads.c", &["together"]);
}

#[test]
fn no_pthread_key_is_left() {
    conforms("threads.c", &["keys"]);
}

#[test]
fn key_destructors_allocate_in_all_rounds() {
    conforms("threads.c", &["rounds"]);
}

#[test]
fn cancelled_threads() {
    conforms("threads.c", &["cancel"]);
}

#[test]
fn thread_local_destructors_allocate() {
    conforms("thread_local.cpp", &[]);
}

#[test]
fn fork_under_contention() {
    conforms("fork.c", &["contention"]);
}

#[test]
fn fork_handlers_allocate() {
    conforms("fork.c", &["handlers"]);
}

#[test]
fn fork_in_a_signal_handler() {
    conforms("fork.c", &["signal"]);
    conforms("fork.c", &["signals"]);
}

#[test]
fn children_started_by_threads() {
    conforms("spawn.c", &[]);
}

#[test]
fn libraries_loaded_and_unloaded() {
    let (Some(program), Some(library)) =
        (compile("load.c", &[]), compile("held_library.c", &["-shared", "-fPIC"]))
    else {
        return;
    };
    for face in [Face::Glibc, Face::Ours] {
        program.passes(face, &[library.path()]);
    }
}

#[test]
fn started_in_a_small_address_space() {
    for mib in ["32", "64", "256", "1024"] {
        conforms("limits.c", &["start", mib]);
    }
}

#[test]
fn the_address_space_is_used_up() {
    conforms("limits.c", &["full"]);
}

#[test]
fn the_address_space_is_used_up_by_threads() {
    conforms("limits.c", &["full-threads"]);
}

#[test]
fn all_mappings_are_used_up() {
    conforms("limits.c", &["maps"]);
}

#[test]
fn an_unlimited_stack() {
    conforms("limits.c", &["stack"]);
}

#[test]
fn system_calls_fail() {
    for which in ["mmap", "madvise", "mremap", "munmap", "mprotect", "barrier", "start"] {
        conforms("refused.c", &[which]);
    }
}

#[test]
fn no_descriptors() {
    conforms("bare.c", &["descriptors"]);
}

#[test]
fn no_files_and_no_rights() {
    conforms("bare.c", &["root"]);
}

#[test]
fn all_memory_locked() {
    conforms("bare.c", &["locked"]);
}

/// Under vm.overcommit_memory=2 every private writable mapping is charged. The setting is the machine's, so
/// this only says whether the other tests ran under it; `contained.rs` can set it.
#[test]
fn strict_overcommit() {
    let setting = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    if setting.trim() != "2" {
        skipped(
            "strict overcommit",
            &format!("vm.overcommit_memory is {}, not 2, on this machine", setting.trim()),
        );
    }
    conforms("limits.c", &["start", "256"]);
}

#[test]
fn the_smallest_stacks() {
    conforms("stack.c", &["small"]);
    conforms("stack.c", &["signal"]);
}

#[test]
fn less_than_four_kib_of_stack() {
    conforms("stack.c", &["measured"]);
}

#[test]
fn objects_freed_by_another_thread() {
    for pairs in ["1", "3"] {
        conforms("remote.c", &[pairs]);
    }
}

#[test]
fn small_objects_go_back_to_the_system() {
    for order in ["forward", "backward", "random", "thread"] {
        conforms("give_back.c", &[order]);
    }
}
