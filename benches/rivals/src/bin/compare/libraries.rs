//! The allocators as libraries to preload: this repository's, Debian's packages, and the C library itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rivals::{BASELINE, OURS};

use super::build;

pub const ALLOCATORS: &[&str] = &[OURS, BASELINE, "jemalloc", "tcmalloc", build::SYSTEM];

/// An allocator's name and its library.
pub type Library = (&'static str, PathBuf);

/// The libraries of these allocators, without those that the machine lacks.
pub fn find(allocators: &[&'static str]) -> Vec<Library> {
    let mut found = Vec::new();
    for &name in allocators {
        match library(name) {
            Ok(path) => found.push((name, path)),
            Err(error) => eprintln!("{name} is left out: {error:#}"),
        }
    }
    found
}

/// `program` with this library preloaded.
pub fn preloading(library: &Path, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env("LD_PRELOAD", library);
    command
}

fn library(name: &str) -> Result<PathBuf> {
    match name {
        BASELINE => installed("libmimalloc.so.2"),
        "jemalloc" => installed("libjemalloc.so.2"),
        "tcmalloc" => installed("libtcmalloc_minimal.so.4"),
        // Preloaded like the others: programs that link another allocator, as Debian's redis does, get this one then.
        build::SYSTEM => installed("libc.so.6"),
        _ => build::preload_library(),
    }
}

/// Where the loader finds the library of this name.
fn installed(soname: &str) -> Result<PathBuf> {
    let output = Command::new("/sbin/ldconfig").arg("-p").output().context("ldconfig does not start")?;
    let cache = String::from_utf8_lossy(&output.stdout);
    let entry = |line: &str| {
        let (name, path) = line.split_once(" => ")?;
        (name.split_whitespace().next() == Some(soname)).then(|| path.into())
    };
    cache.lines().find_map(entry).with_context(|| format!("{soname} is not installed"))
}
