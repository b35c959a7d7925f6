//! `pagefault-trace` as root on a real kernel, against what the faulting process itself counts (getrusage, in
//! tests/kernels/faults.c). Without root each test says so and passes.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

mod counts;
mod ends;
mod options;
mod work;
