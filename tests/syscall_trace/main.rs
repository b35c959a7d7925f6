//! `syscall-trace` on the running kernel, compared with what the workload itself measures and counts
//! (tests/kernels/calls.c). Without root the tests are skipped.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod latency;
mod options;
mod otlp;
mod stuck;
mod summary;
mod workload;
