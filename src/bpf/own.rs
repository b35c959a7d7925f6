//! The tracer's own process group, which is left out: a pipeline must not trace its own writes.

use anyhow::Result;
use libbpf_rs::{ProgramInput, ProgramMut};

use super::load::explain;
use super::map::Plain;
use super::task::{COMM_LEN, comm};
use crate::common::diag::log;

/// Runs the program of `bpf/self.h` here, by which the others know our process and its group. Needs the
/// rights of loading.
///
/// # Errors
/// If the kernel refuses.
pub fn know_self(program: &ProgramMut<'_>) -> Result<()> {
    let ran = program.test_run(ProgramInput::default());
    ran.map(drop).map_err(|error| explain(&error, "cannot find out the tracer's own process group"))
}

/// `struct own_task` of `bpf/task.h`: one that the filters ask for, but which is in our own group.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    /// The process, as the kernel numbers it; 0 if none was seen.
    pub pid: u32,
    /// The name of its thread.
    pub comm: [u8; COMM_LEN],
}

// SAFETY: repr(C), only integers, no padding.
unsafe impl Plain for LeftOut {}

impl LeftOut {
    /// Says on stderr who was left out; false if nobody was.
    pub fn tell(&self) -> bool {
        if self.pid != 0 {
            log(format_args!(
                "{} ({}) is left out, because it is in this program's own process group; add --include-self, or \
                 start this with setsid",
                comm(&self.comm),
                self.pid
            ));
        }
        self.pid != 0
    }
}
