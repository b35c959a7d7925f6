//! Fuzzes the parser of Prometheus text.
#![no_main]

#[path = "../ship_checks.rs"]
mod ship_checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ship_checks::exposition(bytes));
