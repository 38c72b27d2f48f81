//! The C face, as the standards and the glibc manual describe it: small C programs, each run on the C
//! library's own allocator and then with the library preloaded. What each one checks is said in its file in `tests/c`.

mod common;

use common::native::{Face, compile, conforms};

#[test]
fn size_zero_is_a_block_of_its_own() {
    conforms("zero.c", &[]);
}

#[test]
fn impossible_sizes_and_overflowing_products_are_enomem() {
    conforms("huge.c", &[]);
}

#[test]
fn calloc_is_zero_and_untouched() {
    conforms("calloc.c", &[]);
}

#[test]
fn realloc_keeps_contents() {
    conforms("realloc.c", &[]);
}

#[test]
fn free_keeps_errno() {
    conforms("errno.c", &[]);
}

#[test]
fn alignment_is_exact_or_refused() {
    conforms("align.c", &[]);
}

#[test]
fn the_usable_size_is_usable() {
    conforms("usable.c", &[]);
}

#[test]
fn checksummed_churn_in_one_thread() {
    conforms("churn.c", &["1", "200000"]);
}

#[test]
fn checksummed_churn_with_cross_thread_frees() {
    conforms("churn.c", &["4", "80000"]);
}

#[test]
fn gnu_extensions() {
    conforms("extras.c", &[]);
}

#[test]
fn sized_faces() {
    conforms("sized.c", &[]);
}

#[test]
fn every_name_leads_to_the_library() {
    conforms("symbols.c", &[]);
}

#[test]
fn memory_of_the_c_library() {
    conforms("libc_own.c", &[]);
}

/// The proof that each program makes is itself proved: told the wrong allocator, a program fails.
#[test]
fn a_run_on_the_wrong_allocator_fails() {
    let Some(program) = compile("zero.c", &[]) else { return };
    for face in [Face::Glibc, Face::Ours] {
        let mut command = program.command(face, &[] as &[&str]);
        match face {
            Face::Glibc => common::preloaded(&mut command),
            Face::Ours => command.env_remove("LD_PRELOAD"),
        };
        let output = common::run(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("malloc comes from"), "{stderr}");
    }
}
