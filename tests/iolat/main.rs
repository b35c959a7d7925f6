//! `iolat` as root on a real kernel, compared with /proc/diskstats, fio and the kernel's event log. Without root each
//! test is skipped.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/counters.rs"]
#[allow(dead_code, reason = "the rest is used by tests/flood")]
mod counters;
mod counts;
mod faults;
mod latency;
mod machine;
mod options;
mod tracer;
