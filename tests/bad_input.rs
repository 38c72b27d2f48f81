//! What the library says to misuse and to wrong settings: the exact line, and how the process ends.

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Duration;

use common::native::{Face, Program, compile, described, run_within, skipped};

const PATIENCE: Duration = Duration::from_secs(60);

/// Any group but that of whoever runs the tests.
const NOGROUP: u32 = 65534;

const FOREIGN_FREE: &str = "free of a foreign pointer";
const INTERIOR: &str = "free of an interior pointer";
const DOUBLE: &str = "double free";

fn run(command: &mut Command) -> Output {
    run_within(command, PATIENCE)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("only text is printed")
}

/// Runs `bad.c` for each misuse and expects one line that names the fault and the address, then an abort.
fn aborts(cases: &[(&str, &[&str])]) {
    let Some(program) = compile("bad.c", &[]) else { return };
    for (misuse, faults) in cases {
        let output = run(&mut program.command(Face::Ours, &[misuse]));
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let context = format!("{misuse}: {}\n{stdout}{stderr}", described(output.status));
        let address = stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no address: {context}"));
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{context}");
        assert_eq!(stderr.lines().count(), 1, "one line: {context}");
        assert!(stderr.ends_with('\n'), "a whole line: {context}");
        let named = faults.iter().any(|fault| {
            let rest = stderr.strip_prefix(&format!("pcpmalloc: {fault} at {address}"));
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_hexdigit()))
        });
        assert!(named, "one of {faults:?} is expected: {context}");
    }
}

#[test]
fn foreign_pointers() {
    aborts(&[
        ("free-stack", &[FOREIGN_FREE]),
        ("free-static", &[FOREIGN_FREE]),
        ("free-mapped", &[FOREIGN_FREE]),
        ("free-nowhere", &[FOREIGN_FREE]),
        ("free-beyond", &[FOREIGN_FREE]),
        ("realloc-stack", &["realloc of a foreign pointer"]),
        ("realloc-mapped", &["realloc of a foreign pointer"]),
        ("usable-stack", &["malloc_usable_size of a foreign pointer"]),
        ("usable-mapped", &["malloc_usable_size of a foreign pointer"]),
    ]);
}

#[test]
fn interior_pointers() {
    aborts(&[
        ("inside-64K-page", &[INTERIOR]),
        ("inside-64K-16", &[INTERIOR]),
        ("inside-64K-again", &[INTERIOR]),
        ("inside-8M", &[INTERIOR]),
        ("inside-8M-end", &[INTERIOR]),
        ("inside-small", &[INTERIOR]),
        ("inside-small-16", &[INTERIOR]),
    ]);
}

#[test]
fn double_frees() {
    aborts(&[
        ("twice-64K", &[DOUBLE]),
        ("twice-64K-later", &[DOUBLE]),
        ("twice-4M", &[DOUBLE]),
        // A block of this size may have gone back to the system in the meantime.
        ("twice-64M", &[DOUBLE, FOREIGN_FREE]),
        ("twice-small", &[DOUBLE]),
        ("twice-small-later", &[DOUBLE]),
        ("twice-1K", &[DOUBLE]),
    ]);
}

#[test]
fn foreign_pointers_are_forwarded_on_request() {
    let Some(program) = compile("settings.c", &[]) else { return };
    program.passes(Face::Glibc, &["forward"]);
    let output = run(program.command(Face::Ours, &["forward"]).env("PCPMALLOC_FOREIGN", "forward"));
    assert!(output.status.success(), "{}: {}", described(output.status), text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    // Without the request the very same program ends at its first foreign pointer.
    let output = run(&mut program.command(Face::Ours, &["forward"]));
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", described(output.status));
    assert!(text(&output.stderr).starts_with("pcpmalloc: malloc_usable_size of a foreign pointer at 0x"));
}

/// The settings that a run gets wrong, as (variable, value).
type Wrong<'a> = [(&'a str, &'a str)];

const WRONG: &Wrong<'_> = &[
    ("PCPMALLOC_HUGEPAGES", "banana"),
    ("PCPMALLOC_PCP_HIGH", "-3"),
    ("PCPMALLOC_PCP_BATCH", "x"),
    ("PCPMALLOC_PCP_HIGH_ORDERS", "maybe"),
    ("PCPMALLOC_SLACK", "12q"),
    ("PCPMALLOC_LIMIT", ""),
    ("PCPMALLOC_BACKGROUND", "1s"),
    ("PCPMALLOC_WATCH", "on"),
    ("PCPMALLOC_DUMP", "none"),
    ("PCPMALLOC_VERBOSE", "7"),
    ("PCPMALLOC_FOREIGN", "x"),
];

/// The program's answer does not change, and there is one line for each wrong setting.
fn warns(program: &Program, settings: &Wrong<'_>, answer: &str) {
    let output = run(program.command(Face::Ours, &["work"]).envs(settings.iter().copied()));
    let stderr = text(&output.stderr);
    let context = format!("{settings:?}: {}\n{stderr}", described(output.status));
    assert_eq!(output.status.code(), Some(7), "{context}");
    assert_eq!(text(&output.stdout), answer, "{context}");
    assert_eq!(stderr.lines().count(), settings.len(), "a line for each: {context}");
    for (name, value) in settings {
        let start = format!("pcpmalloc: {name}: '{value}' is not ");
        let warned = stderr.lines().any(|line| line.starts_with(&start) && line.contains("; using "));
        assert!(warned, "a line {start:?}: {context}");
    }
}

/// What `settings.c work` prints: the same on every allocator.
fn answer_of(program: &Program) -> String {
    let output = run(&mut program.command(Face::Glibc, &["work"]));
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

#[test]
fn wrong_settings_are_named_and_survived() {
    let Some(program) = compile("settings.c", &[]) else { return };
    let answer = answer_of(&program);
    for wrong in WRONG {
        warns(&program, &[*wrong], &answer);
    }
    warns(&program, WRONG, &answer);
    // Longer than any buffer that a message is put together in.
    let long = "9".repeat(5000);
    let output = run(program.command(Face::Ours, &["work"]).env("PCPMALLOC_PCP_HIGH", &long));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), answer.as_str()));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("pcpmalloc: PCPMALLOC_PCP_HIGH: '999"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn right_settings_say_nothing() {
    let Some(program) = compile("settings.c", &[]) else { return };
    let answer = answer_of(&program);
    let right: &Wrong<'_> = &[
        ("PCPMALLOC_HUGEPAGES", "thp"),
        ("PCPMALLOC_HUGEPAGES", "off"),
        ("PCPMALLOC_PCP_HIGH", "512"),
        ("PCPMALLOC_PCP_BATCH", "16"),
        ("PCPMALLOC_PCP_HIGH_ORDERS", "0"),
        ("PCPMALLOC_PCP_HIGH_ORDERS", "1"),
        ("PCPMALLOC_SLACK", "12M"),
        ("PCPMALLOC_LIMIT", "4G"),
        ("PCPMALLOC_LIMIT", "50%"),
        ("PCPMALLOC_BACKGROUND", "0"),
        ("PCPMALLOC_BACKGROUND", "20"),
        ("PCPMALLOC_DUMP", "all"),
        ("PCPMALLOC_DUMP", "used"),
        ("PCPMALLOC_VERBOSE", "0"),
    ];
    for setting in right {
        warns_nothing(&program, &[*setting], &answer);
    }
}

/// Explicit hugepages that the system has none of: transparent ones instead, and at most a line that says so.
#[test]
fn no_hugepages_to_be_had() {
    let Some(program) = compile("settings.c", &[]) else { return };
    let answer = answer_of(&program);
    let output = run(program.command(Face::Ours, &["work"]).env("PCPMALLOC_HUGEPAGES", "hugetlb"));
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), answer.as_str()), "{stderr}");
    assert!(
        stderr.lines().count() <= 1 && (stderr.is_empty() || stderr.starts_with("pcpmalloc: ")),
        "{stderr}"
    );
}

/// A program that runs with more rights than its caller must not let the caller steer its allocator. It is
/// linked against the library, since such a program ignores LD_PRELOAD.
#[test]
fn the_environment_of_a_set_group_id_program_is_ignored() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("set-group-ID programs", "only root can give a file to any group");
    }
    let library = common::preload_library().to_str().expect("a path in UTF-8");
    let Some(program) = compile("settings.c", &["-Wl,--no-as-needed", library]) else { return };
    // The group is enough for AT_SECURE, and the user can still read the library wherever it is.
    chown(program.path(), None, Some(NOGROUP)).expect("the program can be given away");
    let mode = PermissionsExt::from_mode(0o2755);
    std::fs::set_permissions(program.path(), mode).expect("a mode can be set");
    let mut command = program.command(Face::Ours, &["secure"]);
    program.passes_as(Face::Ours, command.envs(WRONG.iter().copied()).env("PCPMALLOC_LIMIT", "64M"));
    std::fs::remove_file(program.path()).expect("the program can be removed");
}

fn warns_nothing(program: &Program, settings: &Wrong<'_>, answer: &str) {
    let output = run(program.command(Face::Ours, &["work"]).envs(settings.iter().copied()));
    assert_eq!(text(&output.stderr), "", "{settings:?}");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), answer), "{settings:?}");
}

#[test]
fn the_limit_is_null_and_enomem() {
    let Some(program) = compile("settings.c", &[]) else { return };
    let output = run(program.command(Face::Ours, &["limit"]).env("PCPMALLOC_LIMIT", "64M"));
    assert!(output.status.success(), "{}: {}", described(output.status), text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    // Without the setting the same program must miss the limit, or it would prove nothing.
    let output = run(&mut program.command(Face::Ours, &["limit"]));
    assert_eq!(output.status.code(), Some(1), "{}", described(output.status));
}

#[test]
fn verbose_prints_the_kernels_tables_at_exit() {
    let Some(program) = compile("settings.c", &[]) else { return };
    let answer = answer_of(&program);
    let output = run(program.command(Face::Ours, &["work"]).env("PCPMALLOC_VERBOSE", "1"));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), answer.as_str()));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("Node 0, zone"), "buddyinfo: {stderr}");
    assert!(stderr.contains("slabinfo - version: 2.1"), "slabinfo: {stderr}");
}
