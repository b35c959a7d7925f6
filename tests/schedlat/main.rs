//! `schedlat` as root on a real kernel, compared with the scheduler's own counts (/proc/PID/schedstat and status) and
//! with what waiting tasks measure. Without root each test is skipped.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/counters.rs"]
#[allow(dead_code, reason = "the rest is used by tests/flood")]
mod counters;
mod counts;
mod options;
mod waits;
mod work;
