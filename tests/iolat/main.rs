//! `iolat` as root on a real kernel, against what others count and measure: /proc/diskstats, fio, the kernel's event
//! log. Without root each test says so and passes.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/counters.rs"]
#[allow(dead_code, reason = "its other parts are for the flood")]
mod counters;
mod counts;
mod faults;
mod latency;
mod machine;
mod options;
mod tracer;
