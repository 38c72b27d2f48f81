//! Frees that are not what they say: one line that names the fault and the address, then SIGABRT. Each in a process
//! of its own, which is this test run once more.
#![forbid(unsafe_code)]

use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Says which misuse the process that is run once more is to bring about.
const VARIABLE: &str = "PCPMALLOC_TEST_MISUSE";

/// What is freed, and how that is called.
const CASES: [(&str, &str); 6] = [
    ("twice", "double free at "),
    ("twice in a batch", "double free at "),
    ("emptied", "double free at "),
    ("inside", "free of an interior pointer at "),
    ("tail", "free of an interior pointer at "),
    ("class", "free with a wrong size at "),
];

/// Whether there is such a fault in this class: slabs of 8 bytes and of one object have no tail.
fn possible(what: &str, class: usize) -> bool {
    what != "tail" || class != 1 && !CLASSES[class].is_large()
}

/// Frees something that it should not; prints the address first.
fn misuse(what: &str, class: usize) {
    let shop = Shop::new();
    let objects = shop.take(class, usize::from(CLASSES[class].objects).max(4));
    let (object, base) = (objects[1], objects[objects.len() - 1]);
    let wrong = match what {
        "inside" => object.wrapping_add(bytes_of(class) / 2),
        "tail" => base.wrapping_add(objects.len() * bytes_of(class)),
        _ => object,
    };
    println!("address {:#x}", wrong.addr());
    match what {
        "twice" => (0..2).for_each(|_| shop.give(class, &[object])),
        "twice in a batch" => shop.give(class, &[objects[0], object, objects[2], object]),
        "emptied" => {
            shop.give(class, &objects);
            shop.give(class, &[object]);
        }
        "class" => shop.give(class - 1 + 2 * usize::from(class == 1), &[object]),
        _ => shop.give(class, &[wrong]),
    }
}

#[test]
fn a_wrong_free_is_named_and_ends_the_process() {
    if let Ok(case) = std::env::var(VARIABLE) {
        let (class, what) = case.split_once(' ').unwrap();
        return misuse(what, class.parse().unwrap());
    }
    // 8 bytes with a record for the bitmap; 48 bytes, whose slabs have a tail.
    // And a large object, which is its own slab.
    for class in [1, class_of(48), class_of(40_000)] {
        for (what, line) in CASES.into_iter().filter(|(what, _)| possible(what, class)) {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "slab::tests::misuse::a_wrong_free_is_named_and_ends_the_process"])
                .args(["--nocapture", "--test-threads=1"])
                .env(VARIABLE, format!("{class} {what}"))
                .output()
                .unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.signal(), Some(6), "{what}: {out}{err}");
            let address = out.split("address ").nth(1).unwrap().split_whitespace().next().unwrap();
            assert_eq!(err.trim_end(), format!("pcpmalloc: {line}{address}"), "{what}");
        }
    }
}
