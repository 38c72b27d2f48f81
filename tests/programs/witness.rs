//! Proves from the loader's own log that a run's memory came from the library.
//!
//! With `LD_DEBUG=bindings` the dynamic loader writes, for each process, which file's symbol each call was bound to.
//! That covers child processes, sees a program that brings an allocator of its own (Debian's redis-server links
//! jemalloc), and asks nothing of the library under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Whoever gets one of these from elsewhere would free our memory there, or the other way round.
const ALLOCATION: [&str; 11] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
];

/// One line of the log: `from`'s use of `symbol` goes to `to`.
#[derive(Debug, PartialEq)]
struct Binding<'a> {
    from: &'a str,
    to: &'a str,
    symbol: &'a str,
}

impl Binding<'_> {
    fn allocates(&self) -> bool {
        ALLOCATION.contains(&self.symbol)
    }
}

/// Parses ``  PID: binding file FROM [0] to TO [0]: normal symbol `NAME' [VERSION]``; other lines are none.
fn parse(line: &str) -> Option<Binding<'_>> {
    let (from, rest) = line.split_once("binding file ")?.1.split_once(" [")?;
    let (to, rest) = rest.split_once("] to ")?.1.split_once(" [")?;
    let (symbol, _) = rest.split_once("normal symbol `")?.1.split_once('\'')?;
    Some(Binding { from, to, symbol })
}

/// Panics unless every logged process got all its allocation functions from `library`, and each of `executables`
/// was among those processes.
pub fn in_use(logs: &Path, library: &Path, executables: &[&str]) {
    let library = library.to_str().expect("the library's path is text");
    let mut seen = BTreeSet::new();
    for log in read_logs(logs) {
        let bindings: Vec<_> = log.lines().filter_map(parse).collect();
        // A position-dependent executable that takes free's address makes its own entry for it the one that all
        // others see (gcc's cc1, node); that entry leads where the executable's own binding leads.
        let leads_to_us = |b: &Binding| {
            let entry = |own: &Binding| own.from == b.to && own.symbol == b.symbol && own.to == library;
            b.to == library || bindings.iter().any(entry)
        };
        // The library itself may look for the next allocator: that is how foreign pointers find their owner.
        let stray = bindings.iter().find(|b| b.allocates() && b.from != library && !leads_to_us(b));
        assert!(stray.is_none(), "a process mixes allocators: {stray:?}");
        let served = bindings.iter().any(|b| b.symbol == "malloc" && b.from != library && b.to == library);
        assert!(served, "a process did without the library:\n{}", log.lines().take(5).collect::<String>());
        seen.extend(
            bindings.iter().filter_map(|b| Some(Path::new(b.from).file_name()?.to_str()?.to_owned())),
        );
    }
    for name in executables {
        assert!(seen.contains(*name), "no process of `{name}` was seen under the library, only {seen:?}");
    }
}

/// Panics if any process of the run that must do without the library got `malloc` from it.
pub fn unused(logs: &Path) {
    for log in read_logs(logs) {
        let ours = log.lines().filter_map(parse).find(|b| b.to.ends_with("/libpcpmalloc.so"));
        assert!(ours.is_none(), "the run without the library used it: {ours:?}");
    }
}

fn read_logs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder of loader logs exists");
    let logs: Vec<_> = entries
        .map(|entry| fs::read(entry.expect("a log").path()).expect("a log can be read"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    assert!(!logs.is_empty(), "the loader logged nothing: LD_DEBUG_OUTPUT works with glibc only");
    logs
}

#[test]
fn a_binding_line_is_understood() {
    let line = "      3284:\tbinding file redis-server [0] to /w/libpcpmalloc.so [0]: normal symbol `malloc' [GLIBC_2.2.5]";
    let expected = Binding { from: "redis-server", to: "/w/libpcpmalloc.so", symbol: "malloc" };
    assert_eq!(parse(line), Some(expected));
    assert_eq!(parse("      3284:\tcalling init: /lib/x86_64-linux-gnu/libc.so.6"), None);
}

#[test]
fn a_log_that_does_not_prove_it_is_refused() {
    let library = "/w/libpcpmalloc.so";
    let line = |from: &str, to: &str, symbol: &str| {
        format!("1:\tbinding file {from} [0] to {to} [0]: normal symbol `{symbol}'\n")
    };
    let verdict = |name: &str, log: &str| {
        let folder = crate::common::scratch(name);
        fs::write(folder.join("process.1"), log).expect("the log can be written");
        let verdict = std::panic::catch_unwind(|| in_use(&folder, Path::new(library), &["true"]));
        fs::remove_dir_all(&folder).expect("the folder can be removed");
        verdict.is_ok()
    };
    let good = line("true", library, "malloc");
    assert!(verdict("witness-good", &good));
    assert!(!verdict("witness-empty", ""));
    assert!(!verdict("witness-unserved", &line("true", "libc.so.6", "puts")));
    assert!(!verdict("witness-other", &line("false", library, "malloc")));
    assert!(!verdict("witness-mixed", &(good.clone() + &line("true", "libjemalloc.so.2", "free"))));
    assert!(verdict("witness-next", &(good.clone() + &line(library, "libc.so.6", "free"))));
    let entry = line("libc.so.6", "true", "free");
    assert!(!verdict("witness-own", &(good.clone() + &entry)));
    assert!(verdict("witness-entry", &(good + &entry + &line("true", library, "free"))));
}
