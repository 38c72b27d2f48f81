//! The rows of `compare programs`: real programs on the inputs in `programs/`, under each preloaded allocator. Redis
//! measures its server itself; all others are measured from outside, start and end included.

use std::path::{Path, PathBuf};
use std::process::Command;

use rivals::measure::Row;

use super::libraries::{Library, preloading};

/// A row's name, the program, and its arguments; the program runs in the folder of the inputs.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    ("redis", "redis-server", &["redis.sh"]),
    ("python", "python3", &["objects.py"]),
    ("g++", "g++", &["-std=c++17", "-O0", "-c", "templates.cpp", "-o", "/dev/null"]),
    ("sqlite", "sqlite3", &[":memory:", ".read rows.sql"]),
    ("node", "node", &["buffers.js"]),
    ("perl", "perl", &["words.pl"]),
];

/// A row for each program that the machine has.
pub fn rows(libraries: &[Library]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, program, arguments) in PROGRAMS {
        let Some(path) = executable(program) else {
            eprintln!("{name} is left out: {program} is not installed");
            continue;
        };
        let command = |(allocator, library): &Library| {
            let mut command = preloading(library, &path);
            command.current_dir(inputs()).args(*arguments);
            // Python would keep most small objects to itself, and perl order its hashes anew every time.
            command.env("PYTHONMALLOC", "malloc").env("PYTHONHASHSEED", "0").env("PERL_HASH_SEED", "0");
            ((*allocator).to_owned(), command)
        };
        let commands = libraries.iter().map(command).collect();
        rows.push(Row { group: "programs".to_owned(), name: (*name).to_owned(), commands });
    }
    rows
}

fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// What is to be started for this program.
pub fn executable(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())?;
    match program {
        // A script starts the server and drives it.
        "redis-server" => executable("bash"),
        // It may be a shim, a script that finds the interpreter; ask it which one it ends up running.
        "python3" => {
            let asked =
                Command::new(found).args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
            let answer = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
            answer.is_file().then_some(answer)
        }
        _ => Some(found),
    }
}
