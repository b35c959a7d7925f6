//! `syscall-trace` as root on a real kernel, against what the workload measures and counts itself
//! (tests/kernels/calls.c). Without root each test says so and passes.

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
