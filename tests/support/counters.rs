//! The kernel's own counters (perf_event_open) of what tracers count.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use perf_event_open_sys::bindings::{
    PERF_COUNT_SW_PAGE_FAULTS_MAJ, PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_SOFTWARE,
    PERF_TYPE_TRACEPOINT, perf_event_attr,
};
use perf_event_open_sys::{ioctls, perf_event_open};
use tempfile::TempDir;

/// The tracefs. If it is not mounted, it is mounted until this is dropped.
pub struct Tracefs {
    pub root: PathBuf,
    mount: Option<TempDir>,
}

impl Tracefs {
    pub fn new() -> Self {
        let root = PathBuf::from("/sys/kernel/tracing");
        if root.join("events").exists() {
            return Self { root, mount: None };
        }
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tracefs", "nodev"]).arg(folder.path()).status().unwrap();
        assert!(mounted.success());
        Self { root: folder.path().to_owned(), mount: Some(folder) }
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if let Some(mount) = &self.mount {
            let _ = Command::new("umount").arg(mount.path()).output();
        }
    }
}

/// The threads of process 1.
pub fn threads_of_init() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/1/task").unwrap().flatten();
    threads.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A tracepoint filter for events in process 1, including interrupts of it. Some sandboxes run no eBPF programs there,
/// so that tracers do not see these events.
pub fn in_init() -> String {
    let threads: Vec<_> = threads_of_init().iter().map(|tid| format!("common_pid == {tid}")).collect();
    format!("({})", threads.join(" || "))
}

/// A counter, which counts from its creation on.
pub struct Counter(Vec<File>);

impl Counter {
    /// Counts hits of a tracepoint that pass a filter (Documentation/trace/events.rst), on all CPUs.
    pub fn tracepoint(tracefs: &Path, event: &str, filter: &str) -> Self {
        let id = std::fs::read_to_string(tracefs.join("events").join(event).join("id")).unwrap();
        let cpus = libbpf_rs::num_possible_cpus().unwrap();
        let counters = (0..i32::try_from(cpus).unwrap()).filter_map(|cpu| {
            // Refused for a CPU that is not online.
            let counter = open(attr(PERF_TYPE_TRACEPOINT, id.trim().parse().unwrap()), -1, cpu).ok()?;
            let text = std::ffi::CString::new(filter).unwrap();
            // SAFETY: a descriptor of ours and a string that lives as long as the call.
            let set = unsafe { ioctls::SET_FILTER(counter.as_raw_fd(), text.as_ptr().cast_mut()) };
            assert_eq!(set, 0, "{event}: {filter}: {}", std::io::Error::last_os_error());
            // Enabled last, because the call that sets the filter can be an event too.
            // SAFETY: as above.
            assert_eq!(unsafe { ioctls::ENABLE(counter.as_raw_fd(), 0) }, 0);
            Some(counter)
        });
        Self(counters.collect())
    }

    /// Counts page faults of a process from its next exec on, and of its children.
    pub fn page_faults(pid: u32) -> Self {
        let kinds = [PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_COUNT_SW_PAGE_FAULTS_MAJ];
        let counters = kinds.map(|kind| {
            let mut attr = attr(PERF_TYPE_SOFTWARE, kind.into());
            attr.set_inherit(1);
            attr.set_enable_on_exec(1);
            open(attr, i32::try_from(pid).unwrap(), -1).unwrap()
        });
        Self(counters.into())
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        let read = |mut counter: &File| {
            let mut value = [0; 8];
            counter.read_exact(&mut value).unwrap();
            u64::from_ne_bytes(value)
        };
        self.0.iter().map(read).sum()
    }
}

/// The attributes of a counter that is disabled at first.
fn attr(kind: u32, config: u64) -> perf_event_attr {
    let size = u32::try_from(size_of::<perf_event_attr>()).unwrap();
    let mut attr = perf_event_attr { type_: kind, size, config, ..perf_event_attr::default() };
    attr.set_disabled(1);
    attr
}

fn open(mut attr: perf_event_attr, pid: i32, cpu: i32) -> std::io::Result<File> {
    // SAFETY: a valid struct that contains its size; the call keeps no reference to it.
    let fd = unsafe { perf_event_open(&raw mut attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}
