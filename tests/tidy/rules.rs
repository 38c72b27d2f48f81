//! The rules, one function each. They read lines and words, not syntax trees, and rather ask for plainer code than
//! guess.

use crate::Findings;
use crate::source::{Line, Source, find_words};

fn report(file: &Source, line: usize, what: &str, findings: &mut Findings) {
    findings.push(format!("{}:{}: {what}", file.path, line + 1));
}

/// A file mentions no layer above its own, and reaches the crate's root by `crate::` only.
pub fn layers(file: &Source, layers: &[&str], root_names: &[&str], findings: &mut Findings) {
    let Some(own) = file.layer() else { return };
    let Some(height) = layers.iter().position(|layer| *layer == own) else {
        return report(file, 0, &format!("`{own}` is no layer; the layers are {layers:?}"), findings);
    };
    for (line, column) in file.words("crate::") {
        for name in first_names(file, line, column + "crate::".len()) {
            match layers.iter().position(|layer| *layer == name) {
                Some(other) if other <= height => (),
                Some(_) => {
                    report(file, line, &format!("layer `{own}` uses layer `{name}` above it"), findings)
                }
                None if root_names.contains(&name.as_str()) => (),
                None => {
                    let what = format!("`crate::{name}` hides its layer: name it as `crate::LAYER::...`");
                    report(file, line, &what, findings);
                }
            }
        }
    }
    // src/sys/map.rs is two modules deep, so two `super` lead to the root; a module inside the file is one deeper.
    let depth = file.path.trim_end_matches("/mod.rs").matches('/').count();
    let inner: Vec<_> = inner_modules(file).collect();
    for (line, content) in file.lines.iter().enumerate() {
        let deeper = inner.iter().filter(|(start, end)| *start <= line && line <= *end).count();
        if content.code.contains(&"super::".repeat(depth + deeper)) {
            report(file, line, "reaches the crate's root by `super`: write `crate::LAYER::...`", findings);
        }
    }
}

/// The first and the last line of each `mod name { ... }`.
fn inner_modules(file: &Source) -> impl Iterator<Item = (usize, usize)> {
    let bodies = file.words("mod").filter(|(line, _)| file.lines[*line].code.contains('{'));
    bodies.map(|(line, column)| (line, file.end_of_item(line, column)))
}

/// The names that a path goes on with: one, or the heads of a group in braces, which may span lines.
fn first_names(file: &Source, line: usize, column: usize) -> Vec<String> {
    let mut names = vec![String::new()];
    let (mut depth, mut head) = (0, true);
    for (_, _, character) in file.code_from(line, column) {
        match character {
            '{' => {
                depth += 1;
                head &= depth == 1;
            }
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.push(String::new());
                head = true;
            }
            c if head && (c.is_alphanumeric() || c == '_' || c == '*') => {
                names.last_mut().expect("one name").push(c)
            }
            c if c.is_whitespace() && names.last().is_some_and(String::is_empty) => (),
            _ => head = false,
        }
        if depth == 0 && (!head || character == '}') {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Files and functions that a reader can take in at once.
pub fn lengths(file: &Source, file_lines: usize, function_lines: usize, findings: &mut Findings) {
    let length = file.lines.len();
    if length > file_lines {
        report(file, 0, &format!("{length} lines; a file has at most {file_lines}"), findings);
    }
    for (line, column) in file.words("fn") {
        if !starts_function(&file.lines[line].code[column..]) {
            continue;
        }
        let length = file.end_of_item(line, column) - line + 1;
        if length > function_lines {
            report(file, line, &format!("a function of {length} lines; at most {function_lines}"), findings);
        }
    }
}

/// `fn name`, not the type `fn(...)`.
fn starts_function(code: &str) -> bool {
    let after = code.strip_prefix("fn").unwrap_or_default();
    after.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Each file starts by saying what it is.
pub fn header(file: &Source, findings: &mut Findings) {
    let first = file.lines.first().map_or("", |line| line.comment.as_str());
    if !first.starts_with("//!") || first.trim_end() == "//!" {
        report(file, 0, "does not start with a `//!` line that says what the file is", findings);
    }
}

/// Unsafe blocks and impls prove, unsafe functions and traits say what they ask for.
pub fn safety(file: &Source, findings: &mut Findings) {
    for (line, column) in file.words("unsafe") {
        let code: String =
            file.code_from(line, column + "unsafe".len()).map(|(_, _, c)| c).take(120).collect();
        let after = code.trim_start();
        // `unsafe extern "C" fn`; `unsafe extern "C" {` is a block of claims about foreign functions.
        let after = after
            .strip_prefix("extern")
            .map_or(after, |rest| rest.trim_start().trim_start_matches("\"\"").trim_start());
        let claims = after.starts_with('{') || after.starts_with("impl");
        let asks = starts_function(after) && !in_trait_impl(file, line) || after.starts_with("trait");
        if claims && !comment_above(file, line, true).contains("SAFETY:") {
            report(file, line, "unsafe code without a `// SAFETY:` comment directly above", findings);
        } else if asks && !comment_above(file, line, false).contains("# Safety") {
            report(file, line, "an unsafe declaration without a `# Safety` section in its docs", findings);
        }
    }
}

/// The comment on a line and the block of comments above it; attributes between are skipped, and so is, where
/// `statement` is set, the beginning of the statement that the line belongs to.
fn comment_above(file: &Source, line: usize, statement: bool) -> String {
    let mut text = file.lines[line].comment.clone();
    let mut in_comment = false;
    for above in file.lines[..line].iter().rev() {
        let code = above.code.trim();
        let part_of_statement =
            statement && !in_comment && !code.is_empty() && !code.ends_with([';', '{', '}', ',']);
        if code.is_empty() && !above.comment.is_empty() {
            in_comment = true;
        } else if !(code.starts_with("#[") || part_of_statement) {
            break;
        }
        text.insert_str(0, &format!("{}\n", above.comment));
    }
    text
}

/// Whether a line is inside `impl Trait for Type`: what an unsafe method asks for is said by the trait.
fn in_trait_impl(file: &Source, line: usize) -> bool {
    file.words("impl").any(|(start, column)| {
        let code = file.lines[start].code.trim_start();
        let item = code.starts_with("impl") || code.starts_with("unsafe impl");
        let head: String =
            file.code_from(start, column).map(|(_, _, c)| c).take_while(|&c| c != '{').collect();
        item && start < line
            && !find_words(&head, "for").is_empty()
            && line <= file.end_of_item(start, column)
    })
}

/// Unsafe code stands in the listed files only, and every other file forbids it, so that the compiler says so too.
pub fn unsafe_list(files: &[Source], listed: &[&str], findings: &mut Findings) {
    for path in listed {
        if !files.iter().any(|file| file.path == *path && has_unsafe(file)) {
            findings.push(format!("tests/tidy.rs: UNSAFE_FILES names {path}, which has no unsafe code"));
        }
    }
    for file in files.iter().filter(|file| !listed.contains(&file.path.as_str())) {
        // A lint level reaches into the modules below: a parent of an unsafe file cannot forbid.
        let parent = listed.iter().any(|path| is_below(path, &file.path));
        if let Some(line) = file.lines.iter().position(mentions_unsafe) {
            report(file, line, "unsafe code in a file that UNSAFE_FILES does not list", findings);
        } else if !parent && !forbids_unsafe(file) {
            report(file, 0, "has no unsafe code: say `#![forbid(unsafe_code)]` after the header", findings);
        }
    }
}

fn has_unsafe(file: &Source) -> bool {
    file.lines.iter().any(mentions_unsafe)
}

/// What rustc's `unsafe_code` lint objects to.
fn mentions_unsafe(line: &Line) -> bool {
    !find_words(&line.code, "unsafe").is_empty() || line.code.contains("global_asm!(")
}

fn forbids_unsafe(file: &Source) -> bool {
    let code = file.lines.iter().map(|line| line.code.trim()).filter(|code| !code.is_empty());
    code.take_while(|code| code.starts_with("#![")).any(|code| code == "#![forbid(unsafe_code)]")
}

/// Whether the module of the file `path` is inside the module of the file `parent`.
fn is_below(path: &str, parent: &str) -> bool {
    let folder = match parent.rsplit_once('/') {
        Some((folder, "lib.rs" | "mod.rs")) => folder,
        _ => parent.trim_end_matches(".rs"),
    };
    path != parent && path.starts_with(folder) && path[folder.len()..].starts_with('/')
}

/// Each ordering stronger than Relaxed says which access it pairs with.
pub fn atomics(file: &Source, findings: &mut Findings) {
    const REACH: usize = 6;
    for order in ["Acquire", "Release", "AcqRel", "SeqCst"] {
        for (line, column) in file.words(order) {
            let before = &file.lines[line].code[..column];
            // Another type's `::Release`, or an import.
            let other = before.ends_with("::") && !before.ends_with("Ordering::");
            if other || in_import(file, line) {
                continue;
            }
            let near = &file.lines[line.saturating_sub(REACH)..=line];
            if !near.iter().any(|line| !find_words(&line.comment, "pairs").is_empty()) {
                let what = format!(
                    "{order} without a comment that says what it pairs with (\"pairs\", within {REACH} lines)"
                );
                report(file, line, &what, findings);
            }
        }
    }
}

fn in_import(file: &Source, line: usize) -> bool {
    let ends = |line: &&Line| line.code.contains(';') || line.code.trim_end().ends_with('}');
    let start = file.lines[..line].iter().rev().take_while(|line| !ends(line)).count();
    let mut statement = file.lines[line - start..=line].iter().map(|line| line.code.trim());
    statement.any(|code| code.starts_with("use ") || code.starts_with("pub") && code.contains(" use "))
}

/// Words that have no place on an allocation path: they print, panic, allocate, or hide state.
const BANNED: [&str; 23] = [
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "std::io",
    ".unwrap()",
    ".expect(",
    "panic!",
    "todo!",
    "unimplemented!",
    "format!",
    "vec!",
    "Box::new",
    "Vec::",
    "String::",
    ".to_string()",
    ".to_owned()",
    "thread_local!",
    "core::fmt",
    "std::fmt",
    "libc::",
    "static",
];

/// Nothing outside tests uses a banned word, but where its folder may or an exception is listed.
pub fn banned(file: &Source, allowed: &[(&str, &str, &str)], findings: &mut Findings) {
    for word in BANNED {
        if may_use(file, word) || allowed.iter().any(|(path, what, _)| *path == file.path && *what == word) {
            continue;
        }
        for (line, column) in file.words(word) {
            let content = &file.lines[line];
            // As an item: `static` also begins some closures, and `'static` is a lifetime.
            let item = word != "static" || is_static_item(&content.code[..column]);
            if item && !content.test {
                report(file, line, &format!("`{word}` has no place here"), findings);
            }
        }
    }
}

fn is_static_item(before: &str) -> bool {
    let before = before.trim();
    before.is_empty() || before.starts_with("pub") || before.ends_with(['{', '}', ';', ']'])
}

/// The folders in which a word is at home.
fn may_use(file: &Source, word: &str) -> bool {
    // What is not below src/ is the preload member: a face, like src/front.
    let layer = if file.path.starts_with("src/") { file.layer().unwrap_or_default() } else { "front" };
    match word {
        "core::fmt" => layer == "report",
        "libc::" => layer == "sys" || layer == "front",
        "static" => !["base", "page", "slab"].contains(&layer),
        _ => false,
    }
}

/// An exception that nothing needs any more is taken off the list.
pub fn stale_exceptions(files: &[Source], allowed: &[(&str, &str, &str)], findings: &mut Findings) {
    for (path, word, _) in allowed {
        if !files.iter().any(|file| file.path == *path && file.words(word).next().is_some()) {
            findings.push(format!("tests/tidy.rs: ALLOWED has `{word}` in {path}, which does not use it"));
        }
    }
}
