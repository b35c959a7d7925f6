//! Fuzzes the parser of lines.
#![no_main]

#[path = "../ship_checks.rs"]
mod ship_checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ship_checks::line(bytes));
