//! `pagefault-trace` on the running kernel, compared with getrusage of the faulting process
//! (tests/kernels/faults.c). Without root the tests are skipped.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

mod counts;
mod ends;
mod options;
mod work;
