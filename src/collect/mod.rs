//! Readers of what the system tells. Parsers take bytes, never open a path.
//!
//! A [`Collector`] is one file here: it reads its sources once per sample and
//! emits records of one kind or of a family. One that fails says so in a
//! `status` record, and the others go on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{Kind, Reason};

#[cfg(target_os = "linux")]
mod blockdev;
#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod diskstats;
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
#[cfg(target_os = "linux")]
mod route;
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "its collectors use a part of it"))]
mod slots;
#[cfg(target_os = "linux")]
mod sock_diag;
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

#[cfg(target_os = "linux")]
pub use linux::collectors;
pub use source::Source;
#[cfg(target_os = "linux")]
pub use stat::boot_time;
#[cfg(target_os = "macos")]
pub use sysinfo::{boot_time, collectors};

/// Where to read.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Where /proc is.
    pub proc: PathBuf,
    /// Where /sys is.
    pub sys: PathBuf,
    /// True if nothing may be read but what these two hold.
    pub foreign: bool,
}

/// The folder that by convention does not exist, in place of a tree that was not named.
const NOWHERE: &str = "/nonexistent";

impl Roots {
    /// The two trees. If only one of them is another than this machine's, the other one counts as
    /// missing: it would be this machine's.
    ///
    /// # Errors
    /// What is wrong, with the option's name, if a tree that is not this machine's is no folder.
    pub fn new(proc: &Path, sys: &Path) -> Result<Self, String> {
        let given = [("--proc-root", proc, "/proc"), ("--sys-root", sys, "/sys")];
        for (option, path, own) in given {
            if path != Path::new(own) && !path.is_dir() {
                return Err(format!("{option} {}: not a folder that can be read", path.display()));
            }
        }
        let foreign = given.map(|(_, path, own)| path != Path::new(own));
        let or_nowhere =
            |path: &Path, alone: bool| if alone { PathBuf::from(NOWHERE) } else { path.to_owned() };
        Ok(Self {
            proc: or_nowhere(proc, foreign == [false, true]),
            sys: or_nowhere(sys, foreign == [true, false]),
            foreign: foreign.contains(&true),
        })
    }

    /// The option that was not given although the other one was.
    pub fn missing(&self) -> Option<&'static str> {
        let nowhere = Path::new(NOWHERE);
        let options = [("--proc-root", &self.proc), ("--sys-root", &self.sys)];
        options.into_iter().find(|(_, path)| *path == nowhere).map(|(option, _)| option)
    }
}

/// Where to read and how finely: what the command line says to all collectors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to read.
    pub roots: Roots,
    /// A `cpu` record for each CPU too.
    pub per_cpu: bool,
    /// Look at every process, and tell of so many that use most CPU, and most memory.
    pub top: Option<usize>,
}

/// What a collector is told about the sample at hand.
pub struct Sample<'a> {
    /// When it is taken.
    pub ts: Timestamp,
    /// Boot, as /proc/stat has it: the `start_ts` of the kernel's totals.
    pub boot: Option<Timestamp>,
    /// How long ago the sample before was taken; `None` in the first.
    pub interval: Option<Duration>,
    /// False if the sample only prepares the rates of the next: read, emit nothing.
    pub write: bool,
    /// True at the start and hourly: what hardly ever changes is to be told again.
    pub inventory: bool,
    /// Kinds that are wanted.
    pub wanted: &'a dyn Fn(&Kind) -> bool,
}

impl Sample<'_> {
    /// Whether records of this kind are to be written now.
    pub fn wants(&self, kind: &Kind) -> bool {
        self.write && (self.wanted)(kind)
    }

    /// `interval` as the field `interval_s` has it: in seconds, to the microsecond.
    pub fn interval_s(&self) -> Option<f64> {
        self.interval.map(|interval| micro(interval.as_secs_f64()))
    }
}

/// One source of records.
pub trait Collector {
    /// The kinds it can write; it is dropped if none is wanted.
    fn kinds(&self) -> &'static [&'static Kind];

    /// What it reads, and how, as a person wants to know it: for `--verbose`, after the first sample.
    fn method(&self) -> String;

    /// Reads and emits.
    ///
    /// # Errors
    /// Only if stdout fails; what cannot be read is a `status` record.
    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()>;
}

/// Says in a `status` record that `source` could not be read.
///
/// # Errors
/// If stdout fails.
pub fn unreadable(out: &mut Emitter, ts: Timestamp, source: &str, error: &io::Error) -> Result<()> {
    if Path::new(source).starts_with(NOWHERE) {
        // That the whole tree is missing has been said.
        return Ok(());
    }
    let (reason, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (Reason::Denied, "; run as root, or grant read access"),
        io::ErrorKind::NotFound if in_a_given_tree(source) => (Reason::Absent, "; not in this tree"),
        io::ErrorKind::NotFound => (Reason::Absent, "; this kernel or container does not offer it"),
        io::ErrorKind::InvalidData => (Reason::Invalid, ""),
        _ => (Reason::Unsupported, ""),
    };
    out.status(ts, source, reason, &format!("{error}{hint}"))
}

/// Whether a source is a file, and not one of this kernel's.
fn in_a_given_tree(source: &str) -> bool {
    source.starts_with('/') && !["/proc/", "/sys/"].iter().any(|root| source.starts_with(root))
}

/// How much a kernel's total grew per second since the sample before; `None` where
/// one of the two is not there, and where it went back.
pub fn rate(now: Option<u64>, before: Option<u64>, interval: Option<Duration>) -> Option<f64> {
    let grown = now?.checked_sub(before?)?;
    let seconds = interval?.as_secs_f64();
    (seconds > 0.0).then(|| micro(grown as f64 / seconds))
}

/// `part` of `whole`, to the millionth; `None` of nothing.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| micro(part as f64 / whole as f64))
}

/// Rounded to six decimals, which is what measured numbers are good for at most.
pub fn micro(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// How many ticks of /proc make a second (`USER_HZ`): of this kernel, or for a foreign
/// tree 100, which it is wherever Linux runs today but on Alpha.
#[cfg(target_os = "linux")]
fn ticks_per_second(roots: &Roots) -> u64 {
    if roots.foreign { 100 } else { rustix::param::clock_ticks_per_second().max(1) }
}
