//! A memory cgroup for a test, of version 1 or 2.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::native::skipped;

/// A memory cgroup of this test alone, gone when dropped.
pub struct Group {
    path: PathBuf,
    limit: &'static str,
}

impl Group {
    /// A new group with a limit, below the group that this process is in, or as near to it as the system allows.
    pub fn new(bytes: usize) -> Option<Self> {
        let (root, own, limit) = memory_hierarchy()?;
        // Version 2 gives no memory controller to children of a group that has processes: then a sibling it is.
        let above = Path::new(&own).parent().unwrap_or(Path::new("/"));
        for parent in [Path::new(&own), above, Path::new("/")] {
            let parent = root.join(parent.strip_prefix("/").unwrap_or(parent));
            let path = parent.join(format!("pcpmalloc-test-{}-{bytes}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                let group = Self { path, limit };
                if fs::write(group.limit_file(), bytes.to_string()).is_ok() {
                    return Some(group);
                }
            }
        }
        None
    }

    /// The file with its limit.
    pub fn limit_file(&self) -> PathBuf {
        self.path.join(self.limit)
    }

    /// Lets a command run in the group.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
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
