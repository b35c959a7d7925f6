//! Fuzzes the parser of `vm_stat`.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::vm_stat(bytes);
});
