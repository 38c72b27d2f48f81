//! The C++ face: every form of new and delete, and programs that replace any of the replaceable functions.
//! Each program runs on the C library's own allocator and then with the library preloaded.

mod common;

use common::native::{conforms, conforms_built};

/// `new_replaced.cpp` numbers the replaceable functions from 0; this number replaces all at once.
const ALL_REPLACED: usize = 20;

#[test]
fn every_form_of_new_and_delete() {
    conforms("new_forms.cpp", &[]);
}

#[test]
fn every_form_with_the_operators_inside_the_program() {
    conforms_built("new_forms.cpp", &["-static-libstdc++", "-static-libgcc"], &[]);
}

#[test]
fn the_standard_library() {
    conforms("standard_library.cpp", &[]);
}

#[test]
fn each_replaced_operator_is_honoured() {
    for number in 0..=ALL_REPLACED {
        conforms_built("new_replaced.cpp", &[&format!("-DREPLACE={number}")], &[]);
    }
}
