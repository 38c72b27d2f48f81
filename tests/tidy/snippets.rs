//! Bad code for each rule, which must be found at its very line, and good code, which must pass: so that the checker
//! cannot pass for having looked at nothing.

use crate::source::Source;
use crate::{ALLOWED, check};

const HEADER: &str = "//! A file.\n#![forbid(unsafe_code)]\n";

/// What the checker says about one file that may have unsafe code where `listed`.
fn findings(path: &str, text: &str, listed: bool) -> Vec<String> {
    let unsafe_files = if listed { vec![path] } else { vec![] };
    check(&[Source::new(path, text)], &unsafe_files, &[])
}

/// Asserts that `body`, below a good header, is found fault with at exactly these lines of its own, from 1.
#[track_caller]
fn expect(path: &str, body: &str, lines: &[usize]) {
    let listed = body.contains("unsafe ");
    let header = if listed { "//! A file.\n\n" } else { HEADER };
    let found = findings(path, &format!("{header}{body}"), listed);
    let expected: Vec<_> = lines.iter().map(|line| format!("{path}:{}:", line + 2)).collect();
    let same = found.len() == expected.len() && found.iter().zip(&expected).all(|(f, e)| f.starts_with(e));
    assert!(same, "expected findings at {expected:?}, got {found:#?}\nin:\n{body}");
}

#[test]
fn a_layer_above_is_found() {
    expect("src/page/buddy.rs", "use crate::slab::Class;\n", &[1]);
    expect(
        "src/page/buddy.rs",
        "use crate::page::zone::Zone;\nuse crate::{base::Pfn, sys::{lock, map}};\n",
        &[],
    );
    expect("src/page/buddy.rs", "use crate::{\n    base::{Pfn, report},\n    front::Instance,\n};\n", &[1]);
    expect("src/base/pfn.rs", "fn f() -> u8 {\n    crate::page::ORDER\n}\n", &[2]);
    expect("src/front/alloc.rs", "use crate::report::buddyinfo;\n", &[1]);
    expect("src/report/slabinfo.rs", "use crate::front::Instance;\nuse crate::slab::Class;\n", &[]);
    expect("src/sys/mod.rs", "// crate::front is above\nconst NAME: &str = \"crate::front\";\n", &[]);
}

#[test]
fn a_way_round_the_layers_is_found() {
    expect("src/sys/map.rs", "use crate::PcpMalloc;\nuse crate::*;\nuse crate::bug_on;\n", &[1, 2]);
    expect("src/sys/map.rs", "use super::super::page::Zone;\n", &[1]);
    expect("src/sys/map.rs", "use super::lock::Lock;\nmod inner {\n    use super::super::lock;\n}\n", &[]);
    expect("src/sys/mod.rs", "use super::page;\nmod tests {\n    use super::*;\n}\n", &[1]);
}

#[test]
fn a_folder_that_is_no_layer_is_found() {
    let found = findings("src/util.rs", HEADER, false);
    assert!(found.len() == 1 && found[0].starts_with("src/util.rs:1: `util` is no layer"), "{found:?}");
}

#[test]
fn long_files_and_functions_are_found() {
    let function =
        |lines: usize| format!("fn long(a: [u8; 3]) {{\n{}}}\n", "    work();\n".repeat(lines - 2));
    expect("src/sys/map.rs", &function(70), &[]);
    expect("src/sys/map.rs", &format!("fn short() {{}}\n{}", function(71)), &[2]);
    expect("src/sys/map.rs", &format!("const F: fn(u8) = f;\n{}", function(70)), &[]);
    let file = |lines: usize| format!("{HEADER}{}", "const A: u8 = 0;\n".repeat(lines - 2));
    assert_eq!(findings("src/sys/map.rs", &file(600), false), [""; 0]);
    assert_eq!(findings("src/sys/map.rs", &file(601), false).len(), 1);
}

#[test]
fn a_missing_header_is_found() {
    let found = |text: &str| findings("src/lib.rs", text, false).concat();
    assert!(found("#![forbid(unsafe_code)]\n").contains("src/lib.rs:1: does not start"));
    assert!(found("// A file.\n#![forbid(unsafe_code)]\n").contains("src/lib.rs:1: does not start"));
    assert!(found("//!\n#![forbid(unsafe_code)]\n").contains("src/lib.rs:1: does not start"));
    assert_eq!(found("//! A file.\n\n#![no_std]\n#![forbid(unsafe_code)]\n"), "");
}

#[test]
fn unsafe_code_without_proof_is_found() {
    let path = "src/sys/map.rs";
    expect(path, "fn f() {\n    unsafe { g() }\n}\n", &[2]);
    expect(path, "fn f() {\n    // SAFETY: g asks for nothing.\n    unsafe { g() }\n}\n", &[]);
    expect(
        path,
        "fn f() {\n    // SAFETY: g asks\n    // for nothing.\n    #[cfg(linux)]\n    let x =\n        unsafe { g() };\n}\n",
        &[],
    );
    expect(
        path,
        "fn f() {\n    // SAFETY: only for the first.\n    unsafe { g() };\n    unsafe { g() };\n}\n",
        &[4],
    );
    expect(path, "// SAFETY: far away.\n\nunsafe impl Send for Map {}\n", &[3]);
    expect(path, "// SAFETY: no pointers.\nunsafe impl Send for Map {}\n", &[]);
    expect(path, "fn f() {\n    let s = \"// SAFETY: in a string\";\n    unsafe { g() }\n}\n", &[3]);
    expect(path, "unsafe extern \"C\" {\n    fn g();\n}\n", &[1]);
}

#[test]
fn an_unsafe_function_without_a_contract_is_found() {
    let path = "src/sys/map.rs";
    expect(path, "/// Does.\npub unsafe fn f() {}\n", &[2]);
    expect(
        path,
        "/// Does.\n///\n/// # Safety\n/// Never.\n#[inline]\npub unsafe extern \"C\" fn f() {}\n",
        &[],
    );
    expect(path, "pub unsafe trait Plain {}\n", &[1]);
    expect(path, "unsafe impl Trait for A {}\n", &[1]);
    expect(path, "impl Trait for A {\n    unsafe fn f() {}\n}\nimpl A {\n    unsafe fn f() {}\n}\n", &[5]);
    expect(path, "type F = unsafe extern \"C\" fn(u8);\n#[unsafe(no_mangle)]\nfn f() {}\n", &[]);
}

#[test]
fn unsafe_code_outside_the_list_is_found() {
    let found = |path: &str, text: &str, list: &[&str]| check(&[Source::new(path, text)], list, &[]).concat();
    let proven = "//! A file.\n// SAFETY: no pointers.\nunsafe impl Send for Map {}\n";
    assert!(found("src/sys/map.rs", proven, &[]).contains("src/sys/map.rs:3: unsafe code in a file that"));
    assert!(found("src/sys/map.rs", "//! A file.\n", &[]).contains("src/sys/map.rs:1: has no unsafe code"));
    assert!(found("src/sys/map.rs", HEADER, &["src/sys/map.rs"]).contains("which has no unsafe code"));
    assert!(
        found("src/sys/tls.rs", "//! A file.\nglobal_asm!(\"\");\n", &[])
            .contains("src/sys/tls.rs:2: unsafe")
    );
    // Parents cannot forbid what a child does; others still must.
    let files =
        ["src/lib.rs", "src/sys/mod.rs", "src/page/mod.rs"].map(|path| Source::new(path, "//! A file.\n"));
    let files: Vec<_> = files.into_iter().chain([Source::new("src/sys/map.rs", proven)]).collect();
    let found = check(&files, &["src/sys/map.rs"], &[]);
    assert!(found.len() == 1 && found[0].starts_with("src/page/mod.rs:1: has no unsafe"), "{found:?}");
}

#[test]
fn an_ordering_without_a_partner_is_found() {
    let path = "src/sys/lock.rs";
    expect(path, "use core::sync::atomic::{\n    AtomicU32,\n    Ordering::{Acquire, Relaxed},\n};\n", &[]);
    expect(path, "fn f() {\n    flag.load(Acquire);\n    flag.load(Relaxed);\n}\n", &[2]);
    expect(path, "fn f() {\n    flag.store(1, Ordering::Release); // pairs with the Acquire in g\n}\n", &[]);
    expect(path, "fn f() {\n    // Pairs well.\n    fence(Ordering::SeqCst);\n}\n", &[3]);
    let far = |lines: usize| {
        format!("fn f() {{\n    // pairs with g\n{}    a.load(Acquire);\n}}\n", "    b();\n".repeat(lines))
    };
    expect(path, &far(5), &[]);
    expect(path, &far(6), &[9]);
    expect(path, "fn f() {\n    lock(Kind::Release);\n}\n", &[]);
}

#[test]
fn banned_words_are_found() {
    let path = "src/slab/cache.rs";
    for call in [
        "println!(\"x\")",
        "x.unwrap()",
        "x.expect(\"y\")",
        "panic!()",
        "format!(\"x\")",
        "Box::new(1)",
        "Vec::new()",
    ] {
        expect(path, &format!("fn f() {{\n    {call};\n}}\n"), &[2]);
    }
    expect(
        path,
        "#[expect(dead_code)]\nfn f() {\n    // panic!() is in a comment\n    g(\"panic!()\", SmallVec::new());\n}\n",
        &[],
    );
    expect(
        path,
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {\n        panic!()\n    }\n}\nfn h() {\n    todo!()\n}\n",
        &[9],
    );
    expect(path, "#[cfg(not(test))]\nfn f() {\n    panic!()\n}\n", &[3]);
    expect("src/page/zone/tests.rs", "fn f() {\n    panic!()\n}\n", &[]);
    expect("src/sys/tls.rs", "thread_local! {}\n", &[1]);
}

#[test]
fn words_out_of_their_folder_are_found() {
    let item = "pub static TABLE: Table = Table::new();\n";
    expect("src/page/buddy.rs", item, &[1]);
    expect("src/sys/tls.rs", item, &[]);
    expect("src/base/pfn.rs", "fn f(name: &'static str) {\n    static mut COUNT: u8 = 0;\n}\n", &[2]);
    expect("src/base/pfn.rs", "fn f() {\n    libc::abort()\n}\n", &[2]);
    expect("src/front/c.rs", "use libc::size_t;\n", &[]);
    expect("examples/preload/src/lib.rs", "use libc::size_t;\n", &[]);
    expect("src/front/c.rs", "use core::fmt;\n", &[1]);
    expect("src/report/slabinfo.rs", "use core::fmt;\n", &[]);
}

#[test]
fn exceptions_hold_for_their_file_and_word_only() {
    let table = format!("{HEADER}static TABLE: u8 = 0;\n");
    let found = |path: &str, text: &str| check(&[Source::new(path, text)], &[], ALLOWED).concat();
    assert!(!found("src/page/section.rs", &table).contains("src/page/section.rs:"));
    assert!(found("src/page/buddy.rs", &table).contains("src/page/buddy.rs:3: `static`"));
    assert!(found("src/page/section.rs", HEADER).contains("ALLOWED has `static` in src/page/section.rs"));
}

#[test]
fn code_comments_and_literals_are_told_apart() {
    let text = "let a = \"x // \\\" y\"; // z\nlet b = r#\"q \" // \"#; /* one /* two */ three\nfour */ let c: &'a str = '\"'; // é\n";
    let source = Source::new("src/lib.rs", text);
    let lines: Vec<_> = source.lines.iter().map(|line| (line.code.as_str(), line.comment.as_str())).collect();
    let expected = [
        ("let a = \"\"; ", "// z"),
        ("let b = \"\"; ", " one  two  three"),
        (" let c: &'a str = ' '; ", "four // é"),
    ];
    assert_eq!(lines, expected);
}
