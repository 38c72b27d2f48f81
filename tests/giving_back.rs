//! What the process has in memory, and in how many mappings, while a program works and after it has freed: nobody asks for
//! anything to be given back.

mod common;

use common::native::conforms;

#[test]
fn a_burst_of_small_objects_leaves_nothing() {
    conforms("burst.c", &["1"]);
}

#[test]
fn a_burst_freed_by_other_threads_leaves_nothing() {
    conforms("burst.c", &["2"]);
    conforms("burst.c", &["6"]);
}

#[test]
fn blocks_that_come_and_go_keep_their_pages() {
    for threads in ["1", "2", "8"] {
        conforms("cycles.c", &[threads, "2000"]);
    }
}

#[test]
fn a_large_heap_has_few_mappings() {
    conforms("mappings.c", &[]);
}
