//! Fuzzes the encoder, with OTLP/JSON and records.
#![no_main]

#[path = "../ship_checks.rs"]
mod ship_checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ship_checks::otlp_json(bytes));
