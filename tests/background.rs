//! The background thread: memory goes with time and without a call, a fork's child has its own, and without the
//! setting there is none.

mod common;
#[path = "common/heap.rs"]
mod heap;

use std::process::Command;
use std::time::{Duration, Instant};

use common::group::Group;
use common::native::{Face, compile, described, run_within, skipped};
use heap::{Block, layout, memory};
use pcpmalloc::{Config, Instance};

/// Runs background.c with a slack that keeps everything, and with this time between ticks.
fn with_period(what: &str, ms: Option<&str>) {
    with_slack(what, ms, "1G");
}

fn with_slack(what: &str, ms: Option<&str>, slack: &str) {
    let Some(program) = compile("background.c", &[]) else { return };
    let mut command = program.command(Face::Ours, &[what]);
    command.env("PCPMALLOC_SLACK", slack);
    if let Some(ms) = ms {
        command.env("PCPMALLOC_BACKGROUND", ms);
    }
    program.passes_as(Face::Ours, &mut command);
}

#[test]
fn an_idle_programs_memory_goes() {
    with_period("idle", Some("100"));
}

#[test]
fn a_busy_programs_free_memory_goes_too() {
    with_slack("busy", Some("50"), "150M");
}

#[test]
fn one_thread_without_the_setting() {
    with_period("alone", None);
    with_period("alone", Some("0"));
    with_period("unused", Some("10"));
}

#[test]
fn forks_have_their_own() {
    for ms in ["1", "50"] {
        with_period("fork", Some(ms));
    }
}

#[test]
fn it_keeps_no_process_alive() {
    // An hour from tick to tick: who waits for one fails by hanging.
    for ms in ["1", "3600000"] {
        with_period("leaves", Some(ms));
    }
}

/// Whether the kernel takes a trigger for memory pressure.
fn has_pressure() -> bool {
    let has = std::fs::read("/proc/pressure/memory").is_ok();
    if !has {
        skipped("memory pressure", "/proc/pressure/memory cannot be read here");
    }
    has
}

#[test]
fn the_watchs_descriptors() {
    let Some(program) = compile("background.c", &[]) else { return };
    if has_pressure() {
        let mut command = program.command(Face::Ours, &["watch"]);
        command.env("PCPMALLOC_WATCH", "1").env("PCPMALLOC_BACKGROUND", "20");
        let output = run_within(&mut command, Duration::from_secs(60));
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The program closes the library's descriptors: whether that shows is a matter of the moment.
        let gone =
            |line: &str| line == "pcpmalloc: memory pressure cannot be watched any more; going on without";
        assert!(
            output.status.success() && stderr.lines().all(gone),
            "{}\n{stderr}",
            described(output.status)
        );
    }
}

/// A slack that keeps everything, no ticks, and a group whose limit sinks below what is resident.
#[test]
fn memory_goes_when_it_is_short() {
    let Some(program) = compile("background.c", &[]) else { return };
    let Some(group) = Group::new(256 << 20) else {
        return skipped("memory pressure in a cgroup", "no group can be made here");
    };
    let file = group.limit_file();
    let mut command = program.command(Face::Ours, &["short", file.to_str().expect("a path in UTF-8")]);
    command.env("PCPMALLOC_WATCH", "1").env("PCPMALLOC_SLACK", "1G");
    program.passes_as(Face::Ours, group.enter(&mut command));
}

/// What other tests run without the thread, with it at its most frequent.
#[test]
fn it_disturbs_nothing() {
    for (source, what) in [
        ("fork.c", "contention"),
        ("fork.c", "handlers"),
        ("fork.c", "signals"),
        ("start_exit.c", "exit"),
        ("start_exit.c", "pthread_exit"),
        ("threads.c", "keys"),
        ("threads.c", "rounds"),
        ("remote.c", "2"),
        ("limits.c", "full"),
        ("limits.c", "maps"),
    ] {
        let Some(program) = compile(source, &[]) else { return };
        let mut command = program.command(Face::Ours, &[what]);
        program.passes_as(Face::Ours, command.env("PCPMALLOC_BACKGROUND", "1"));
    }
}

/// Runs this very test again, in a process with the setting. False in the one without it.
fn again(name: &str) -> bool {
    if std::env::var_os("PCPMALLOC_BACKGROUND").is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("PCPMALLOC_BACKGROUND", "20")
        .output()
        .expect("the test binary starts");
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && passed, "{output:?}");
    false
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux lists threads").count()
}

/// Waits until no more than this is resident.
fn falls_below(bytes: usize) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while memory().1 > bytes {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn it_serves_every_instance() {
    if !again("it_serves_every_instance") {
        return;
    }
    let config = Config { slack: 1 << 30, ..Config::new() };
    let (_, before) = memory();
    let heaps: Vec<_> = (0..3).map(|_| Instance::new(config).expect("an instance")).collect();
    let threads_before = threads();
    for heap in &heaps {
        let blocks: Vec<_> = (0..4_000).map(|_| Block::new(heap, layout(10_000, 8), 1)).collect();
        blocks.into_iter().for_each(|block| block.expect("memory").free(heap));
    }
    assert_eq!(threads(), threads_before + 1);
    let fell = falls_below(before + (16 << 20));
    assert!(fell, "{before} bytes before, {} after", memory().1);
    // Instances come and go while it looks at them.
    for size in 1..200 {
        let heap = Instance::new(config).expect("an instance");
        let blocks: Vec<_> = (0..100).map(|_| Block::new(&heap, layout(size * 100, 8), 1)).collect();
        blocks.into_iter().for_each(|block| block.expect("memory").free(&heap));
        std::thread::yield_now();
        // What is being given back at this very moment is on no list: once it is back, everything adds up.
        if size % 50 == 0 {
            std::thread::sleep(Duration::from_millis(60));
            heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
    heaps.iter().for_each(|heap| {
        heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    });
}

#[test]
fn without_a_thread_it_goes_on() {
    if !pcpmalloc::fault::arm(pcpmalloc::fault::Call::Any, 0, 0) {
        return skipped("a thread that cannot start", "it needs a build with debug assertions");
    }
    if std::env::var_os("PCPMALLOC_BACKGROUND").is_none() {
        let output = Command::new(std::env::current_exe().expect("a test has a file"))
            .args(["without_a_thread_it_goes_on", "--exact", "--nocapture", "--test-threads=1"])
            .env("PCPMALLOC_BACKGROUND", "20")
            .output()
            .expect("the test binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("pcpmalloc:")).collect();
        assert!(output.status.success(), "{output:?}");
        assert!(lines.len() == 1 && lines[0].contains("the background thread cannot be started"), "{said}");
        return;
    }
    let heap = Instance::new(Config::new()).expect("an instance");
    let before = threads();
    pcpmalloc::fault::arm(pcpmalloc::fault::Call::Spawn, 0, u64::MAX);
    let blocks: Vec<_> = (0..4_000).map(|_| Block::new(&heap, layout(10_000, 8), 1)).collect();
    blocks.into_iter().for_each(|block| block.expect("memory").free(&heap));
    assert_eq!(threads(), before);
}
