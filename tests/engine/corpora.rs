//! The inputs that fuzzing has kept, replayed without a fuzzer: captures of real
//! sessions, the corpora, and what once broke a check.

use std::fs;
use std::path::Path;

use crate::checks::{engine, hostile, line, packet};

fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut count = 0;
    for kind in ["seeds", "corpus", "regressions"] {
        for input in fs::read_dir(fuzz.join(kind).join(target)).unwrap() {
            let input = input.unwrap().path();
            // Shown if it fails.
            println!("{}", input.display());
            check(&fs::read(&input).unwrap());
            count += 1;
        }
    }
    assert!(count > 10, "{count} inputs");
}

#[test]
fn packets_are_read_and_edited_rightly() {
    replay("packet", packet::check);
}

#[test]
fn lines_mean_the_same_however_they_are_cut() {
    replay("line", line::check);
}

#[test]
fn conversations_come_to_what_an_editor_of_whole_lines_would_have_made() {
    replay("engine", engine::check);
}

#[test]
fn hostile_packets_and_damaged_states_break_nothing() {
    replay("hostile", hostile::check);
}
