//! Loading: what libbpf says, kept for when it fails, and turned into advice.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Mutex;

use anyhow::anyhow;
use libbpf_rs::{ErrorKind, PrintLevel, libbpf_sys, set_print};

use super::privilege::advice;

/// The last things libbpf complained about.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many of them are shown: the verifier's own last words, as a rule.
const SHOWN: usize = 12;

/// From now on libbpf's complaints are kept for [`explain`] and go nowhere else.
pub fn listen() {
    set_print(Some((PrintLevel::Warn, keep)));
}

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut complaints) = COMPLAINTS.lock() {
        complaints.extend(text.lines().map(str::to_owned));
        let surplus = complaints.len().saturating_sub(SHOWN);
        complaints.drain(..surplus);
    }
}

/// Says why a program could not be loaded or attached, and what to do about it.
pub fn explain(error: &libbpf_rs::Error, doing: &str) -> anyhow::Error {
    // EPERM is about privileges; EACCES, which has the same kind, is the verifier's refusal.
    let complaints = COMPLAINTS.lock().map(|kept| kept.join("\n")).unwrap_or_default();
    if error.kind() == ErrorKind::PermissionDenied && complaints.contains("-EPERM") {
        return anyhow!(
            "{doing}: {error}\n{}",
            advice(crate::common::diag::program_name(), "A privilege is")
        );
    }
    anyhow!("{doing}: {error:#}\n{complaints}")
}

pub use super::args::nanos;

/// Sets the switches that all tracers have (`bpf/hist.h`, `ring.h` and `task.h`) in the constants of a skeleton,
/// which has a type of its own for each: `switches!(data, settings, ring_bytes)`.
macro_rules! switches {
    ($data:expr, $settings:expr, $ring_bytes:expr) => {{
        let (data, settings) = (&mut *$data, $settings);
        let filter: &$crate::bpf::task::TaskFilter = &settings.tasks;
        data.hist_cells = $crate::bpf::hist::CELLS;
        data.events = settings.events.is_some();
        data.min_ns = $crate::bpf::load::nanos(settings.events);
        data.ring_half = u64::from($ring_bytes) / 2;
        data.wanted_pids = filter.pids()?;
        data.want_pids = u32::try_from(filter.pid.len())?;
        data.want_uid = filter.uid.is_some();
        data.wanted_uid = filter.uid.unwrap_or(0);
        data.want_cgroup = filter.cgroup.is_some();
        data.wanted_cgroup = filter.cgroup_id()?;
        data.want_comm = filter.comm.is_some();
        data.wanted_comm = filter.comm_words();
        data.leave_out_self = !filter.include_self;
    }};
}
pub(super) use switches;

/// How often a program was not run because it was running on that CPU already; `None` if the
/// kernel does not tell (before 5.12, or to a process without privileges before 5.19).
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: a valid descriptor, and a struct of the length given, of which the kernel fills a part.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut len)
    };
    (result == 0).then_some(info.recursion_misses)
}
