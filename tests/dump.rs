//! Core dumps: all of the heap, or only what is in use.

mod common;

use common::native::{Face, compile};

fn dumps(what: &str, settings: &[(&str, &str)]) {
    let Some(program) = compile("dump.c", &[]) else { return };
    let folder = common::scratch(&format!("dump-{}", settings.len()));
    let mut command = program.command(Face::Ours, &[what, folder.to_str().expect("a path in UTF-8")]);
    program.passes_as(Face::Ours, command.envs(settings.iter().copied()));
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

#[test]
fn all_of_the_heap_by_default() {
    dumps("all", &[]);
}

#[test]
fn only_what_is_in_use_on_request() {
    dumps("used", &[("PCPMALLOC_DUMP", "used")]);
}

#[test]
fn only_what_is_in_use_on_small_pages() {
    dumps("used", &[("PCPMALLOC_DUMP", "used"), ("PCPMALLOC_HUGEPAGES", "off")]);
}

/// What other tests run with the default.
#[test]
fn it_disturbs_nothing() {
    for (source, what) in
        [("fork.c", "contention"), ("threads.c", "together"), ("refused.c", "madvise"), ("limits.c", "full")]
    {
        let Some(program) = compile(source, &[]) else { return };
        let mut command = program.command(Face::Ours, &[what]);
        program.passes_as(Face::Ours, command.env("PCPMALLOC_DUMP", "used"));
    }
}
