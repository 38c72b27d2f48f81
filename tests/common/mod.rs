//! What every test that preloads the library shares: building it, and running programs under it.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod group;
pub mod native;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `libpcpmalloc.so`, built in release mode in a target directory of its own, so that it neither waits for
/// nor disturbs the build that runs this test. Panics when the build fails.
pub fn preload_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = root().join("target/preload");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--package", "pcpmalloc-preload", "--target-dir"])
            .arg(&target)
            .current_dir(root())
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "the preload library does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join("release/libpcpmalloc.so")
    })
}

/// `command` with the library preloaded.
pub fn preloaded(command: &mut Command) -> &mut Command {
    command.env("LD_PRELOAD", preload_library())
}

/// The output of `command`, run to its end. Panics when it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

/// A folder for the files of one test, below cargo's temporary directory for tests.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the scratch folder can be made");
    folder
}
