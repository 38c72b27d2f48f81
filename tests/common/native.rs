//! Compiling the C and C++ programs of `tests/c` and running them, without the library and with it.
//!
//! A program that is about a standard's sentence runs on the C library's own allocator first: there it shows
//! that the test is right, and then, preloaded, that the library is.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{preloaded, root};

/// How long any one program may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(90);

/// The exit status with which a program says that it cannot test anything here.
const SKIPPED: i32 = 77;

/// Prints why something was not tested. Unlike `eprintln!` this also shows when the test passes.
pub fn skipped(what: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {reason}");
}

/// A compiled program, and what it is called in messages.
pub struct Program {
    name: String,
    path: PathBuf,
}

/// Which allocator a program runs on, and the argument that tells it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    Glibc,
    Ours,
}

/// Compiles `tests/c/<source>` with further `flags`; none when the machine has no compiler for it, which is
/// printed. Panics when the source does not compile.
pub fn compile(source: &str, flags: &[&str]) -> Option<Program> {
    let (compiler, standard) =
        if source.ends_with(".cpp") { ("g++", "-std=c++17") } else { ("gcc", "-std=gnu11") };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native");
    std::fs::create_dir_all(&folder).expect("the folder for programs can be made");
    let name =
        [&[source.rsplit_once('.').expect("a file name").0], flags].concat().concat().replace('/', "_");
    let path = folder.join(&name);
    // Tests run at the same time and may want the same program: each makes its own and puts it in place.
    let unfinished = folder.join(format!("{name}.{}.{:?}", std::process::id(), thread::current().id()));
    let output = Command::new(compiler)
        // The compiler knows malloc and free and removes what it can: it must not.
        .args([standard, "-O1", "-g", "-fno-builtin", "-Wall", "-Wextra", "-pthread", "-Wl,-z,now", "-o"])
        .arg(&unfinished)
        .arg(Path::new("tests/c").join(source))
        .args(flags)
        .arg("-ldl")
        .current_dir(root())
        .output();
    match output {
        Err(error) => {
            skipped(source, &format!("no {compiler}: {error}"));
            return None;
        }
        Ok(output) => {
            assert!(output.status.success(), "{source}:\n{}", String::from_utf8_lossy(&output.stderr))
        }
    }
    std::fs::rename(&unfinished, &path).expect("the program can be put in place");
    Some(Program { name, path })
}

impl Program {
    /// Where the program is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command that runs the program on `face`, with no setting of the library in its environment.
    pub fn command<S: AsRef<OsStr>>(&self, face: Face, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PCPMALLOC_") {
                command.env_remove(name);
            }
        }
        match face {
            Face::Glibc => command.env_remove("LD_PRELOAD").arg("glibc"),
            Face::Ours => preloaded(&mut command).arg("ours"),
        };
        command.args(arguments).current_dir(root());
        command
    }

    /// Runs the program on `face`. It must end with 0 and write nothing to standard error; what it wrote to
    /// standard output comes back, unless it skipped its work, for a reason that is printed.
    pub fn passes<S: AsRef<OsStr>>(&self, face: Face, arguments: &[S]) -> Option<String> {
        self.passes_as(face, &mut self.command(face, arguments))
    }

    /// As `passes`, for a command that was changed further.
    pub fn passes_as(&self, face: Face, command: &mut Command) -> Option<String> {
        let output = run_within(command, PATIENCE);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(SKIPPED) {
            let reason = stdout.trim().strip_prefix("skipped: ").expect("a reason").to_owned();
            skipped(&format!("{} on {face:?}", self.name), &reason);
            return None;
        }
        assert!(
            output.status.success() && stderr.is_empty(),
            "{command:?}: {}\n{stdout}{stderr}",
            described(output.status)
        );
        Some(stdout)
    }
}

/// Compiles a program and runs it on both faces; both must pass.
pub fn conforms(source: &str, arguments: &[&str]) {
    conforms_built(source, &[], arguments);
}

/// As `conforms`, compiled with further `flags`.
pub fn conforms_built(source: &str, flags: &[&str], arguments: &[&str]) {
    let Some(program) = compile(source, flags) else { return };
    program.passes(Face::Glibc, arguments);
    program.passes(Face::Ours, arguments);
}

/// The output of `command`, which is killed with its children, and panics, when it runs longer than `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > end {
            kill_group(child.id());
            panic!("{command:?} hangs: it did not end within {limit:?}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    // A grandchild left behind would keep the pipes open for ever.
    kill_group(child.id());
    Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

fn kill_group(leader: u32) {
    // SAFETY: kill has no preconditions; the group was made for this child alone.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// An exit status in words.
pub fn described(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("died of signal {signal}"),
        None => format!("ended with {}", status.code().expect("a code where there is no signal")),
    }
}
