//! The eBPF tracers. Each has a folder, and `tracer` is what they share: it opens, configures, attaches,
//! drains and reports.

pub mod args;

#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod cgroup;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod clock;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod iolat;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod kernel;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod load;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod map;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod pagefault;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod percentiles;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod pid_watch;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod privilege;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod schedlat;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod self_filter;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod skeleton;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod syscall;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod task;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub mod tracer;
