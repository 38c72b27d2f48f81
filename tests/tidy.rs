//! The shape of the code, checked: layers, lengths, headers, unsafe code, atomics, and what may not be called.
//!
//! `tidy/source.rs` tells code from comments, `tidy/rules.rs` holds one function a rule, `tidy/snippets.rs` shows each
//! rule bad code that it must refuse. This file says what the rules are about and where the exceptions are.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/snippets.rs"]
mod snippets;
#[path = "tidy/source.rs"]
mod source;

use source::Source;
use std::fs;
use std::path::Path;

/// The folders of src/ from the bottom up. A file may mention its own layer and those before it.
const LAYERS: [&str; 6] = ["sys", "base", "page", "slab", "front", "report"];

/// What lib.rs has at the crate's root for every layer: macros.
const ROOT_NAMES: &[&str] = &["bug_on"];

/// The only files with `unsafe` code. All others forbid it.
const UNSAFE_FILES: &[&str] = &[
    "src/front/alloc.rs",    // the copies of realloc
    "src/front/c.rs",        // pointers of C
    "src/front/global.rs",   // GlobalAlloc
    "src/front/instance.rs", // the owning handle
    "src/front/tests.rs",    // blocks of its own
    "src/front/registry.rs", // instances by number
    "src/front/root.rs",     // an ELF section of its own
    "src/front/thread.rs",   // a thread's cache by its slot
    "src/page/arena.rs",
    "src/page/discard.rs",         // giving arena memory back
    "src/page/class_map.rs",       // classes by address
    "src/page/dedicated.rs",       // mappings that come, move and go
    "src/page/meta.rs",            // records in mapped memory
    "src/page/per_node.rs",        // records by address
    "src/page/section.rs",         // struct pages by address
    "src/page/tests/dedicated.rs", // blocks of its own
    "src/page/tests/mod.rs",       // memory of its own zones
    "src/slab/tests/mod.rs",       // objects of its own
    "src/report/c_stats.rs",       // a stream of C
    "src/report/print.rs",         // a word at exit
    "src/slab/kmem_cache.rs",      // records of bitmaps
    "src/slab/sheaf.rs",           // slots after a header
    "src/slab/slab_page.rs",       // objects by number
    "src/slab/thread_sheaves.rs",  // the fast path's pointers
    "src/sys/bracket.rs",          // a value with an owner
    "src/sys/bug.rs",              // write(2) and abort
    "src/sys/env.rs",              // the C library
    "src/sys/futex.rs",            // sleeping on a word
    "src/sys/foreign.rs",          // the next allocator
    "src/sys/lock.rs",             // a value behind a lock
    "src/sys/map.rs",              // mapping
    "src/sys/mod.rs",              // errno
    "src/sys/numa.rs",             // memory policies
    "src/sys/slot.rs",             // the TLS slot
    "src/sys/stream.rs",           // a stream of C
    "src/sys/thread.rs",           // the C library's threads
    "src/sys/watch.rs",            // descriptors
    "examples/preload/src/lib.rs", // the C names
];

/// Exceptions from the banned words: file, word, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "src/page/class_map.rs",
        "static",
        "the one class map: it belongs to the process, as the section table does",
    ),
    ("src/page/section.rs", "static", "the one section table: it belongs to the process, not to an instance"),
    (
        "src/slab/size_class.rs",
        "static",
        "tables that never change: a const would be copied where it is used",
    ),
    ("src/sys/slot.rs", "thread_local!", "the slot where there is no hand-made one"),
];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Everything a rule finds, as `file:line: what is wrong`.
type Findings = Vec<String>;

/// All rules over all files.
fn check(files: &[Source], unsafe_files: &[&str], allowed: &[(&str, &str, &str)]) -> Findings {
    let mut findings = Vec::new();
    for file in files {
        rules::layers(file, &LAYERS, ROOT_NAMES, &mut findings);
        rules::lengths(file, FILE_LINES, FUNCTION_LINES, &mut findings);
        rules::header(file, &mut findings);
        rules::safety(file, &mut findings);
        rules::atomics(file, &mut findings);
        rules::banned(file, allowed, &mut findings);
    }
    rules::unsafe_list(files, unsafe_files, &mut findings);
    rules::stale_exceptions(files, allowed, &mut findings);
    findings
}

#[test]
fn the_code_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "examples/preload/src"] {
        read_folder(root, Path::new(folder), &mut files);
    }
    for layer in LAYERS {
        let found = files.iter().any(|file| file.layer() == Some(layer));
        assert!(found, "src/{layer} has no file: is this list of layers still the crate's?");
    }
    assert!(
        files.iter().any(|file| file.path == "examples/preload/src/lib.rs"),
        "the preload member has moved"
    );
    let findings = check(&files, UNSAFE_FILES, ALLOWED);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    let entries =
        fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.expect("a folder's entry").file_name()).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        if root.join(&path).is_dir() {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("source is text");
            files.push(Source::new(path.to_str().expect("source paths are text"), &text));
        }
    }
}
