//! Builds what `compare` runs, into `target/rivals/`: the workload program once for each allocator, the programs in
//! C, and the library to preload.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The allocator that no feature names: the C library's.
pub const SYSTEM: &str = "system";

/// The program `rivals-workload` with this allocator in it, as `target/rivals/NAME`.
pub fn workload_program(allocator: &str) -> Result<PathBuf> {
    let mut options = vec!["--package=rivals", "--bin=rivals-workload"];
    if allocator != SYSTEM {
        options.extend(["--features", allocator]);
    }
    let mut cargo = cargo(&options);
    if allocator == "snmalloc" {
        // Built without cmake, its crate leaves the assertions in.
        cargo.env("CXXFLAGS", "-DNDEBUG");
    }
    finish(allocator, cargo)?;
    keep("rivals-workload", allocator)
}

/// This repository's library, as `target/rivals/libpcpmalloc.so`; `PCPMALLOC_LIB` names another one.
pub fn preload_library() -> Result<PathBuf> {
    if let Some(library) = env::var_os("PCPMALLOC_LIB") {
        return Ok(library.into());
    }
    finish("libpcpmalloc.so", cargo(&["--package=pcpmalloc-preload"]))?;
    keep("libpcpmalloc.so", "libpcpmalloc.so")
}

/// The workloads in C, as `target/rivals/suite`.
pub fn suite() -> Result<PathBuf> {
    c_program("suite", "c")
}

/// The scenarios of memory, as `target/rivals/memory`.
pub fn memory_program() -> Result<PathBuf> {
    c_program("memory", "c/memory")
}

/// The program of all C files in one folder.
fn c_program(name: &str, sources: &str) -> Result<PathBuf> {
    let program = folder().join(name);
    fs::create_dir_all(folder())?;
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-fno-builtin", "-pthread", "-o"]).arg(&program);
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(sources))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "c") {
            compiler.arg(file);
        }
    }
    compiler.arg("-lm");
    finish(name, compiler)?;
    Ok(program)
}

/// `cargo build --release` into a folder of its own: the features of one allocator after another would make cargo build
/// the rest of the workspace anew each time.
fn cargo(options: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--release"]).args(options);
    cargo.arg("--target-dir").arg(folder().join("build"));
    cargo
}

fn finish(name: &str, mut builder: Command) -> Result<()> {
    eprintln!("building {name}");
    let output = builder.output().with_context(|| format!("{builder:?} does not start"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        let error = messages.lines().find(|line| line.contains("error"));
        bail!("it does not build: {}", error.unwrap_or("the compiler says nothing of an error"));
    }
    Ok(())
}

/// Copies what cargo has built, so that the next build does not change it under a running comparison.
fn keep(built: &str, name: &str) -> Result<PathBuf> {
    let kept = folder().join(name);
    // A program that still runs somewhere cannot be written over, but its name can be had.
    let _ = fs::remove_file(&kept);
    fs::copy(folder().join("build/release").join(built), &kept)
        .with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(kept)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(target).join("rivals")
}
