//! A process with less memory than it asks for: in a memory cgroup, in a small address space, and under strict
//! overcommit. It must see null and ENOMEM and live on; a kill would be the end of the test.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::native::{Face, compile, conforms, described, run_within, skipped};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: usize = 128 << 20;

/// A memory cgroup of this test alone, gone when dropped.
struct Group {
    path: PathBuf,
}

impl Group {
    /// A new group with a limit, below the group that this process is in, or as near to it as the system allows.
    fn new(bytes: usize) -> Option<Self> {
        let (root, own, limit) = memory_hierarchy()?;
        // Version 2 gives no memory controller to children of a group that has processes: then a sibling it is.
        let above = Path::new(&own).parent().unwrap_or(Path::new("/"));
        for parent in [Path::new(&own), above, Path::new("/")] {
            let parent = root.join(parent.strip_prefix("/").unwrap_or(parent));
            let path = parent.join(format!("pcpmalloc-test-{}-{bytes}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                let group = Self { path };
                if fs::write(group.path.join(limit), bytes.to_string()).is_ok() {
                    return Some(group);
                }
            }
        }
        None
    }

    /// Lets a command run in the group.
    fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let procs = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"));
        let mut procs: File = procs.expect("the group's list of processes can be opened");
        // SAFETY: between fork and exec only write(2) is called, on a file that is open already.
        unsafe { command.pre_exec(move || procs.write_all(b"0").map_err(|_| Error::last_os_error())) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was killed in it may take a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        skipped("removing a cgroup", &format!("{} is busy", self.path.display()));
    }
}

/// Where memory cgroups are, which of them this process is in, and the name of the file with a group's limit.
fn memory_hierarchy() -> Option<(PathBuf, String, &'static str)> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut found = None;
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.split(',').any(|name| name == "memory") {
            return Some(("/sys/fs/cgroup/memory".into(), path.to_owned(), "memory.limit_in_bytes"));
        }
        if controllers.is_empty() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            found = Some(("/sys/fs/cgroup".into(), path.to_owned(), "memory.max"));
        }
    }
    found
}

#[test]
fn a_limit_in_per_cent_of_a_cgroup() {
    let Some(program) = compile("contained.c", &[]) else { return };
    let Some(group) = Group::new(LIMIT) else {
        skipped("a memory cgroup", "none can be made here; RLIMIT_AS stands for it");
        return a_small_address_space();
    };
    // The limit counts what is in use. Under hugepages more is backed, up to 1.6 times as much for blocks of pages of
    // the least lucky sizes, and the test has them.
    for (percent, hugepages, most, least) in [("80%", "off", "103", "70"), ("50%", "thp", "65", "45")] {
        let mut command = program.command(Face::Ours, &["outside", most, least]);
        command.env("PCPMALLOC_LIMIT", percent).env("PCPMALLOC_HUGEPAGES", hugepages);
        program.passes_as(Face::Ours, group.enter(&mut command));
    }
    // Without the setting the kernel's answer must be a kill, or this would prove nothing.
    let mut command = program.command(Face::Ours, &["outside", "1000", "70"]);
    let output = run_within(group.enter(&mut command), PATIENCE);
    assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{}", described(output.status));
}

#[test]
fn per_cent_of_the_machine() {
    let Some(program) = compile("contained.c", &[]) else { return };
    let meminfo = fs::read_to_string("/proc/meminfo").expect("Linux says how much memory there is");
    let total =
        meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") >> 10;
    if total > 100 << 10 {
        return skipped(
            "1% of the machine's memory",
            &format!("that is of {total} MiB, more than a test takes"),
        );
    }
    // A group's limit may be less than the machine's memory.
    let most = (total / 100 + 1).to_string();
    let mut command = program.command(Face::Ours, &["outside", &most, "0"]);
    program.passes_as(Face::Ours, command.env("PCPMALLOC_LIMIT", "1%"));
}

#[test]
fn a_small_address_space() {
    conforms("contained.c", &["self", "160", "60", "160"]);
}

/// `vm.overcommit_memory` and the bound that goes with it, as they were before when dropped.
struct Overcommit {
    before: Vec<(&'static str, String)>,
}

impl Overcommit {
    /// Lets the machine promise `bytes` more than it has promised so far.
    fn strict(bytes: usize) -> Option<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        let line = meminfo.lines().find_map(|line| line.strip_prefix("Committed_AS:"))?;
        let committed: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
        let bound = (committed + (bytes >> 10)).to_string();
        let mut changed = Self { before: Vec::new() };
        // Writing one of ratio and kbytes sets the other to 0: the one that held is written back.
        let kbytes = fs::read_to_string("/proc/sys/vm/overcommit_kbytes").ok()?;
        let holds = if kbytes.trim() == "0" { "overcommit_ratio" } else { "overcommit_kbytes" };
        changed.set("overcommit_kbytes", &bound, holds)?;
        changed.set("overcommit_memory", "2", "overcommit_memory")?;
        Some(changed)
    }

    /// Writes one setting, and notes another to be written back.
    fn set(&mut self, name: &str, value: &str, back: &'static str) -> Option<()> {
        let file = |name: &str| Path::new("/proc/sys/vm").join(name);
        self.before.push((back, fs::read_to_string(file(back)).ok()?));
        fs::write(file(name), value).ok()
    }
}

impl Drop for Overcommit {
    fn drop(&mut self) {
        while let Some((name, value)) = self.before.pop() {
            let file = Path::new("/proc/sys/vm").join(name);
            fs::write(file, value.trim()).expect("it was readable before");
        }
    }
}

/// The setting is the whole machine's: every other process would see its allocations fail as soon as the bound is
/// reached, which is what this program sees to. So it runs where somebody says that nobody else is there.
#[test]
fn strict_overcommit() {
    if std::env::var_os("PCPMALLOC_TEST_OVERCOMMIT").is_none() {
        return skipped(
            "strict overcommit",
            "it holds for every process of the machine; set PCPMALLOC_TEST_OVERCOMMIT=1 where this is the only one",
        );
    }
    let Some(program) = compile("contained.c", &[]) else { return };
    common::preload_library();
    let Some(_strict) = Overcommit::strict(256 << 20) else {
        return skipped("strict overcommit", "vm.overcommit_memory cannot be set here");
    };
    program.passes(Face::Glibc, &["outside", "300", "40"]);
    program.passes(Face::Ours, &["outside", "300", "40"]);
}
