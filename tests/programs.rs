//! Real programs, unmodified, under `LD_PRELOAD`: what they print and make is what they print and make without it.
//!
//! `programs/harness.rs` plays each scenario on two sides and compares; `programs/witness.rs` proves that the library
//! was in use. A program that the machine lacks is skipped with a line that says so.

mod common;
#[path = "programs/harness.rs"]
mod harness;
#[path = "programs/redis.rs"]
mod redis;
#[path = "programs/witness.rs"]
mod witness;

use harness::{Side, compare, input, installed, skipped};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn python() {
    let Some(python) = installed("python3") else { return };
    // PATH's python3 may be a shim, a script that finds the interpreter; ask it which one it ends up running.
    let asked =
        Command::new(python).args(["-c", "import sys; print(sys.executable)"]).stderr(Stdio::null()).output();
    let answer =
        asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let python = PathBuf::from(answer);
    if !python.is_file() {
        return skipped("python3: installed, but does not run");
    }
    let name = python.file_name().expect("an interpreter has a name").to_string_lossy().into_owned();
    compare("python", &[&name], |side| {
        // pymalloc would keep most small objects to itself.
        side.run(side.command(&python).env("PYTHONMALLOC", "malloc").arg(input("work.py")));
    });
}

#[test]
fn perl() {
    let Some(perl) = installed("perl") else { return };
    compare("perl", &["perl"], |side| {
        side.run(side.command(&perl).env("PERL_HASH_SEED", "0").arg(input("work.pl")));
    });
}

#[test]
fn node() {
    let Some(node) = installed("node") else { return };
    compare("node", &["node"], |side| side.run(side.command(&node).arg(input("work.js"))));
}

#[test]
fn sqlite() {
    let Some(sqlite) = installed("sqlite3") else { return };
    let script = std::fs::read(input("rows.sql")).expect("the script can be read");
    compare("sqlite", &["sqlite3"], |side| {
        let script = side.write("rows.sql", &script);
        side.run(side.command(&sqlite).args(["-batch", ":memory:"]).stdin(script));
    });
}

/// Compiles, and compares the preprocessed source, the assembly, the object file and what the program prints.
fn compile(name: &str, compiler: &str, source: &str, text: &str, options: &[&str], expected: &[&str]) {
    let Some(path) = installed(compiler) else { return };
    compare(name, expected, |side| {
        side.write(source, text);
        side.run(side.command(&path).args(options).args(["-save-temps", "-c", source]));
        let stem = source.split('.').next().expect("a file name has a stem");
        for made in ["s", "o"] {
            side.record_file(&format!("{stem}.{made}"));
        }
        side.run(side.command(&path).args([&format!("{stem}.o"), "-pthread", "-o", "program"]));
        side.run(&mut side.command(side.folder().join("program")));
    });
}

#[test]
fn gcc() {
    compile("gcc", "gcc", "functions.c", &c_source(500), &["-O2"], &["cc1", "as", "ld", "program"]);
}

#[test]
fn gxx() {
    let text = std::fs::read_to_string(input("templates.cpp")).expect("the source can be read");
    let options = ["-std=c++17", "-O2", "-pthread"];
    compile("g++", "g++", "templates.cpp", &text, &options, &["cc1plus", "as", "ld", "program"]);
}

/// A C file of `functions` functions with loops, switches and structures, called one after the other.
fn c_source(functions: u32) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
    for i in 0..functions {
        let (a, b, c) = (i * 7919 % 251 + 1, i * 104_729 % 127 + 2, i % 13 + 3);
        write!(
            text,
            "struct s{i} {{ int a; long b[{c}]; char name[{b}]; }};
static long f{i}(long x, struct s{i} *s) {{
    for (int i = 0; i < {c}; i++) {{
        s->b[i] = x * {a} + i;
        switch ((x ^ s->b[i]) & 7) {{
        case 0: x += s->b[i] / {b}; break;
        case 1: x ^= s->b[i] << 2; break;
        case 2: s->name[i % {b}] = (char)x; x -= {a}; break;
        case 3: x = x * 31 + s->a; break;
        default: x += s->name[(unsigned long)x % {b}];
        }}
    }}
    return x;
}}
"
        )
        .expect("a string takes all");
    }
    text.push_str("int main(void) {\n    long x = 1;\n");
    for i in 0..functions {
        writeln!(
            text,
            "    {{ struct s{i} *s = calloc(1, sizeof *s); s->a = {i}; x = f{i}(x, s); free(s); }}"
        )
        .expect("a string takes all");
    }
    text + "    printf(\"%ld\\n\", x);\n}\n"
}

#[test]
fn git() {
    let Some(git) = installed("git") else { return };
    let history = git_history(600);
    compare("git", &["git"], |side| {
        let git = |side: &Side, arguments: &str| {
            let mut command = side.command(&git);
            command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
            // Threads on, hints and paging off; gc in the foreground, so that its end is this command's end.
            command.args([
                "-c",
                "pack.threads=3",
                "-c",
                "gc.autoDetach=false",
                "-c",
                "advice.detachedHead=false",
            ]);
            command.args(arguments.split(' '));
            command
        };
        side.run(&mut git(side, "init --quiet --initial-branch=main ."));
        let stream = side.write("history.stream", &history);
        side.run(git(side, "fast-import --quiet").stdin(stream));
        side.run(&mut git(side, "checkout --quiet --force main"));
        side.run(&mut git(side, "log --stat --graph --all"));
        side.run(&mut git(side, "log --patch --no-merges -n 150 main"));
        side.run(&mut git(side, "blame --line-porcelain src/file3.txt"));
        side.run(&mut git(side, "grep --threads=4 -n --count record"));
        side.run(&mut git(side, "gc --quiet --aggressive --prune=now"));
        side.run(&mut git(side, "fsck --full --strict --no-progress"));
        side.run(&mut git(side, "cat-file --batch-all-objects --batch-check"));
        side.run(&mut git(side, "rev-list --all --objects"));
        side.run(&mut git(side, "clone --quiet --no-local . copy"));
        side.run(&mut git(side, "-C copy log --format=%H%x20%T%x20%s"));
    });
}

/// `git fast-import`'s input for a history of `commits` commits over some forty files, with a branch and merges.
fn git_history(commits: usize) -> String {
    let mut stream = String::new();
    let mut seed = 1_u32;
    let mut random = move |bound: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % bound
    };
    let mut files = vec![String::new(); 40];
    for mark in 1..=commits {
        // Every third commit goes to the side branch, every thirtieth merges it.
        let branch = if mark > 1 && mark % 3 == 0 { "side" } else { "main" };
        let message = format!("Change {mark}: {}", "why ".repeat(random(20)));
        write!(
            stream,
            "commit refs/heads/{branch}\nmark :{mark}\ncommitter A Person <person@example.org> {} +0000\n",
            1_700_000_000 + mark * 600
        )
        .expect("a string takes all");
        write!(stream, "data {}\n{message}\n", message.len()).expect("a string takes all");
        match mark {
            3 => stream.push_str("from :2\n"),
            _ if mark > 3 && mark % 30 == 1 => {
                writeln!(stream, "merge :{}", mark - 1).expect("a string takes all")
            }
            _ => (),
        }
        for _ in 0..1 + random(4) {
            let number = random(files.len());
            let file = &mut files[number];
            let cut = file.len() - random(file.len() / 4 + 1);
            file.truncate(cut);
            for _ in 0..5 + random(60) {
                writeln!(file, "record {} of commit {mark}: {}", random(10_000), "data ".repeat(random(8)))
                    .expect("a string takes all");
            }
            write!(stream, "M 100644 inline src/file{number}.txt\ndata {}\n{file}\n", file.len())
                .expect("a string takes all");
        }
    }
    stream
}
