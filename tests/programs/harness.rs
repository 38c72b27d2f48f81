//! Plays a scenario of real programs twice, without and with the library, and compares all that came out.
//!
//! Every command runs in a bare environment and in a folder of its side's own, so that the two sides differ in
//! `LD_PRELOAD` alone. Exit status, standard output and standard error are compared byte for byte.

use crate::common::{preload_library, root, scratch};
use crate::witness;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No command takes longer than some 15 s; one that hangs in the allocator must not hang the suite.
const DEADLINE: Duration = Duration::from_secs(150);

/// One of the two runs: where it works, what it preloads, and what its programs said so far.
pub struct Side {
    folder: PathBuf,
    library: Option<&'static Path>,
    records: Vec<Record>,
}

/// Something a program made, to be compared with what it made on the other side.
struct Record {
    what: String,
    bytes: Vec<u8>,
}

/// Plays `scenario` on both sides, compares the records, and proves from the loader's log that the library
/// served every process of the second side, `executables` among them, and none of the first.
pub fn compare(name: &str, executables: &[&str], scenario: impl Fn(&mut Side)) {
    let folder = scratch(name);
    let plain = Side::play(folder.join("plain"), None, &scenario);
    let ours = Side::play(folder.join("preloaded"), Some(preload_library()), &scenario);

    for (plain, ours) in plain.records.iter().zip(&ours.records) {
        assert_eq!(plain.what, ours.what, "{name}: the two sides ran different commands");
        if plain.bytes != ours.bytes {
            let (line, without, with) = first_difference(&plain.bytes, &ours.bytes);
            panic!(
                "{name}: `{}` differs at line {line}\n without: {without}\n    with: {with}\n(files kept in {})",
                plain.what,
                folder.display()
            );
        }
    }
    assert_eq!(plain.records.len(), ours.records.len(), "{name}: one side recorded more");
    assert!(!plain.records.is_empty(), "{name}: the scenario recorded nothing");

    witness::unused(&plain.logs());
    witness::in_use(&ours.logs(), preload_library(), executables);
    fs::remove_dir_all(&folder).expect("the scratch folder can be removed");
}

impl Side {
    fn play(folder: PathBuf, library: Option<&'static Path>, scenario: &impl Fn(&mut Side)) -> Side {
        let mut side = Side { folder, library, records: Vec::new() };
        fs::create_dir_all(side.logs()).expect("the side's folder can be made");
        scenario(&mut side);
        side
    }

    /// The folder in which this side's programs run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the loader writes what it bound, one file a process.
    fn logs(&self) -> PathBuf {
        self.folder.join(".bindings")
    }

    /// `program` in this side's environment: bare but for PATH and the allocator's own knobs.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.folder).env_clear().stdin(Stdio::null());
        command.envs(std::env::vars().filter(|(key, _)| key == "PATH" || key.starts_with("PCPMALLOC_")));
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command.env("LC_ALL", "C").env("TZ", "UTC");
        // Both sides are logged, so that even the slower start is the same on both.
        command.env("LD_DEBUG", "bindings").env("LD_DEBUG_OUTPUT", self.logs().join("process"));
        if let Some(library) = self.library {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// Runs `command` to its end and records what it said. Panics when it fails or hangs.
    pub fn run(&mut self, command: &mut Command) {
        self.run_as(&describe(command), command);
    }

    /// The same for a command whose own words differ between the sides.
    pub fn run_as(&mut self, what: &str, command: &mut Command) {
        let (status, stdout, stderr) = self.finish(command);
        assert!(status.success(), "{} {what}: {status}\n{}\n{}", self.name(), tail(&stdout), tail(&stderr));
        self.record(format!("{what} (standard output)"), stdout);
        self.record(format!("{what} (standard error)"), stderr);
    }

    /// Runs `command` to its end without recording anything: its output tells times, addresses or pids.
    pub fn run_unrecorded(&self, command: &mut Command) -> String {
        let (status, stdout, stderr) = self.finish(command);
        assert!(
            status.success(),
            "{} {}: {status}\n{}\n{}",
            self.name(),
            describe(command),
            tail(&stdout),
            tail(&stderr)
        );
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// Records the contents of a file that a program left in the folder.
    pub fn record_file(&mut self, name: &str) {
        let bytes = fs::read(self.folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!bytes.is_empty(), "{name} is empty");
        self.record(name.to_owned(), bytes);
    }

    /// Writes a file for the programs to read, and opens it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> File {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("the folder takes a file");
        File::open(path).expect("what was written can be read")
    }

    fn record(&mut self, what: String, bytes: Vec<u8>) {
        self.records.push(Record { what, bytes });
    }

    /// Whether this is the side with the library.
    pub fn preloads(&self) -> bool {
        self.library.is_some()
    }

    fn name(&self) -> &'static str {
        if self.preloads() { "preloaded" } else { "plain" }
    }

    /// Output goes through files: nothing blocks on a full pipe while this waits with a deadline.
    fn finish(&self, command: &mut Command) -> (ExitStatus, Vec<u8>, Vec<u8>) {
        let (stdout, stderr) = (self.folder.join(".stdout"), self.folder.join(".stderr"));
        let create = |path| File::create(path).expect("the folder takes a file");
        command.stdout(create(&stdout)).stderr(create(&stderr)).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let status = wait(&mut child, DEADLINE).unwrap_or_else(|| {
            end_group(&mut child);
            panic!("{} {} still ran after {DEADLINE:?}", self.name(), describe(command));
        });
        (status, fs::read(stdout).expect("output is kept"), fs::read(stderr).expect("output is kept"))
    }
}

/// Waits for `child` until `deadline`; none when it still runs.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait().expect("a child can be waited for") {
            None if start.elapsed() < deadline => std::thread::sleep(Duration::from_millis(5)),
            status => return status,
        }
    }
}

/// Kills a child that leads a process group of its own, with all that it started.
fn end_group(child: &mut Child) {
    let group = libc::pid_t::try_from(child.id()).expect("a pid fits");
    // SAFETY: kill touches no memory. The child was not waited for yet, so the id is still its group's.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    child.wait().expect("a killed child ends");
}

/// An input that lies beside this file.
pub fn input(name: &str) -> PathBuf {
    root().join("tests/programs").join(name)
}

/// The full path of `program`, or none and a line that says why its test is skipped. That line goes past the test
/// harness's capture (which takes only what the print macros write), so that no skip is silent.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skipped(&format!("{program}: not installed"));
    }
    found
}

/// Says that a test is skipped, and why.
pub fn skipped(reason: &str) {
    writeln!(std::io::stderr(), "skipped: {reason}").expect("standard error is open");
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The first line in which two outputs differ, with its number from 1.
fn first_difference(plain: &[u8], ours: &[u8]) -> (usize, String, String) {
    let text = |line: Option<&[u8]>| match line {
        Some(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned(),
        None => "(end)".to_owned(),
    };
    let (mut left, mut right) = (plain.split(|&byte| byte == b'\n'), ours.split(|&byte| byte == b'\n'));
    for number in 1.. {
        let pair = (left.next(), right.next());
        if pair.0 != pair.1 || pair.0.is_none() {
            return (number, text(pair.0), text(pair.1));
        }
    }
    unreachable!("outputs are finite")
}
