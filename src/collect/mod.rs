//! Collectors: they read the system and emit records. Parsers take bytes and never open a path.
//!
//! A [`Collector`] is one file, for Linux in `linux`, for macOS in `sysinfo`. It reads its sources once per sample and
//! emits records of one kind or family. A source that fails becomes a `status`
//! record, and the other collectors go on.

mod collector;
#[cfg(target_os = "linux")]
mod linux;
pub mod powermetrics;
pub mod prometheus;
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod sampler;
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "its collectors use only part of it"))]
mod slots;
mod source;
#[cfg(any(target_os = "macos", test))]
mod sysinfo;
pub mod text;
pub mod url;
pub mod vm_stat;

pub use collector::{
    Collector, Failure, Roots, Sample, Settings, in_a_given_tree, mean, micro, rate, ratio, unreadable,
};
#[cfg(target_os = "linux")]
pub use linux::{boot_time, cgroup, collectors, power, statvfs, virtual_memory};
pub use source::Source;
#[cfg(target_os = "macos")]
pub use sysinfo::{boot_time, collectors};
