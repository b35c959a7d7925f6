//! Collectors: they read the system and emit records. Parsers take bytes and never open a path.
//!
//! A [`Collector`] is one file here. It reads its sources once per sample and
//! emits records of one kind or family. A source that fails becomes a `status`
//! record, and the other collectors go on.

#[cfg(target_os = "linux")]
mod blockdev;
#[cfg(target_os = "linux")]
pub mod cgroup;
mod collector;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod diskstats;
#[cfg(target_os = "linux")]
mod file;
#[cfg(target_os = "linux")]
mod filesystem;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod inet;
#[cfg(target_os = "linux")]
mod interface;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod mountinfo;
#[cfg(target_os = "linux")]
mod netdev;
#[cfg(target_os = "linux")]
mod netstat;
#[cfg(target_os = "linux")]
mod paging;
#[cfg(target_os = "linux")]
mod pidstat;
#[cfg(target_os = "linux")]
pub mod power;
pub mod powermetrics;
#[cfg(target_os = "linux")]
mod pressure;
#[cfg(target_os = "linux")]
mod prober;
#[cfg(target_os = "linux")]
mod processes;
pub mod prometheus;
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod sampler;
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "its collectors use only part of it"))]
mod slots;
#[cfg(target_os = "linux")]
mod sockets;
mod source;
#[cfg(target_os = "linux")]
mod stat;
#[cfg(target_os = "linux")]
pub mod statvfs;
#[cfg(any(target_os = "macos", test))]
mod sysinfo;
#[cfg(target_os = "linux")]
mod tcp_sockets;
pub mod text;
pub mod url;
#[cfg(target_os = "linux")]
pub mod virtual_memory;
pub mod vm_stat;

pub use collector::{Collector, Failure, Roots, Sample, Settings, mean, micro, rate, ratio, unreadable};
#[cfg(target_os = "linux")]
use collector::{in_a_given_tree, ticks_per_second};
#[cfg(target_os = "linux")]
pub use linux::collectors;
pub use source::Source;
#[cfg(target_os = "linux")]
pub use stat::boot_time;
#[cfg(target_os = "macos")]
pub use sysinfo::{boot_time, collectors};
