//! A process with less memory than it asks for: in a memory cgroup, in a small address space, and under strict
//! overcommit. It must see null and ENOMEM and live on; a kill would be the end of the test.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use common::group::Group;
use common::native::{Face, compile, conforms, described, run_within, skipped};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: usize = 128 << 20;

#[test]
fn a_limit_in_per_cent_of_a_cgroup() {
    let Some(program) = compile("contained.c", &[]) else { return };
    let Some(group) = Group::new(LIMIT) else {
        skipped("a memory cgroup", "none can be made here; RLIMIT_AS stands for it");
        return a_small_address_space();
    };
    // The group also pays for the program itself, and for hugepages until the limit splits them.
    for (percent, hugepages, most, least) in [("90%", "off", "116", "80"), ("80%", "thp", "103", "70")] {
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
