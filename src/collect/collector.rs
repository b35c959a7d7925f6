//! The trait of all collectors, and its arguments: the roots to read from, the settings, and the current sample.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{Kind, Reason, Record};

/// The directories to read from.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The proc file system, normally /proc.
    pub proc: PathBuf,
    /// The sys file system, normally /sys.
    pub sys: PathBuf,
    /// True if these are not /proc and /sys: nothing else of this machine may be read then.
    pub foreign: bool,
}

/// Stands in for the root that was not given; by convention it does not exist.
const NOWHERE: &str = "/nonexistent";

impl Roots {
    /// Takes the two options. If only one of them differs from the default, the other root
    /// counts as missing, because it would be this machine's.
    ///
    /// # Errors
    /// A message with the option's name, if a root that was given is not a directory.
    pub fn new(proc: &Path, sys: &Path) -> Result<Self, String> {
        let given = [("--proc-root", proc, "/proc"), ("--sys-root", sys, "/sys")];
        for (option, path, own) in given {
            if path != Path::new(own) && !path.is_dir() {
                return Err(format!("{option} {}: not a readable directory", path.display()));
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

    /// The option that is missing, if only one of the two was given.
    pub fn missing(&self) -> Option<&'static str> {
        let nowhere = Path::new(NOWHERE);
        let options = [("--proc-root", &self.proc), ("--sys-root", &self.sys)];
        options.into_iter().find(|(_, path)| *path == nowhere).map(|(option, _)| option)
    }
}

/// The command-line options that concern the collectors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directories to read from.
    pub roots: Roots,
    /// Emit a `cpu` record for each CPU too.
    pub per_cpu: bool,
    /// Read every process, and emit this many by CPU and as many by memory.
    pub top: Option<usize>,
    /// Include the command lines of these processes.
    pub cmdline: bool,
}

/// The circumstances of one sample.
pub struct Sample<'a> {
    /// The time of the sample.
    pub ts: Timestamp,
    /// The boot time, as /proc/stat has it: the `start_ts` of the kernel's totals.
    pub boot: Option<Timestamp>,
    /// Time since the previous sample; `None` in the first.
    pub interval: Option<Duration>,
    /// False if the sample only prepares the rates of the next: read, emit nothing.
    pub write: bool,
    /// True in the first sample and then hourly: emit facts that hardly ever change.
    pub inventory: bool,
    /// True for the kinds that are selected.
    pub wanted: &'a dyn Fn(&Kind) -> bool,
}

impl Sample<'_> {
    /// Whether to emit records of this kind now.
    pub fn wants(&self, kind: &Kind) -> bool {
        self.write && (self.wanted)(kind)
    }

    /// Emits a record, if its kind is wanted now.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn emit<R: Record>(&self, record: &R, out: &mut Emitter) -> Result<()> {
        if self.wants(R::KIND) { out.emit(self.ts, record) } else { Ok(()) }
    }

    /// The value of the field `interval_s`: seconds, rounded to the microsecond.
    pub fn interval_s(&self) -> Option<f64> {
        self.interval.map(|interval| micro(interval.as_secs_f64()))
    }
}

/// One source of records.
pub trait Collector {
    /// The kinds it can emit; a collector is dropped if none of them is wanted.
    fn kinds(&self) -> &'static [&'static Kind];

    /// What it reads and how, in words: `--verbose` prints this after the first sample.
    fn method(&self) -> String;

    /// Reads and emits.
    ///
    /// # Errors
    /// Only if stdout fails; a source that cannot be read becomes a `status` record.
    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()>;

    /// Checks, after the last sample, that the sources that the user named gave something:
    /// each of them if `every`, else at least one.
    ///
    /// # Errors
    /// Names a source that gave nothing, and why.
    fn check(&self, every: bool) -> Result<()> {
        let _ = every;
        Ok(())
    }
}

/// Why a source gave nothing, for its `status` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// What happened, and what to do about it.
    pub detail: String,
}

impl Failure {
    /// Makes a failure.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Reports in a `status` record that `source` could not be read.
///
/// # Errors
/// If stdout fails.
pub fn unreadable(out: &mut Emitter, ts: Timestamp, source: &str, error: &io::Error) -> Result<()> {
    if Path::new(source).starts_with(NOWHERE) {
        // The missing root has its own record.
        return Ok(());
    }
    let (reason, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (Reason::Denied, "; run as root, or grant read access"),
        io::ErrorKind::NotFound if in_a_given_tree(source) => (Reason::Absent, "; not below the given root"),
        io::ErrorKind::NotFound => (Reason::Absent, "; this kernel or container does not provide it"),
        io::ErrorKind::InvalidData => (Reason::Invalid, ""),
        _ => (Reason::Unsupported, ""),
    };
    out.status(ts, source, reason, &format!("{error}{hint}"))
}

/// Whether a source is a file outside this machine's /proc and /sys.
pub fn in_a_given_tree(source: &str) -> bool {
    source.starts_with('/') && !["/proc/", "/sys/"].iter().any(|root| source.starts_with(root))
}

/// The growth of a total per second; `None` if a value or the interval is missing, or the total went back.
pub fn rate(now: Option<u64>, before: Option<u64>, interval: Option<Duration>) -> Option<f64> {
    let grown = now?.checked_sub(before?)?;
    let seconds = interval?.as_secs_f64();
    (seconds > 0.0).then(|| micro(grown as f64 / seconds))
}

/// `part` divided by `whole`, rounded to six decimals; `None` if `whole` is 0.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| micro(part as f64 / whole as f64))
}

/// The mean of ratios, rounded to six decimals; `None` if there is none, or one is unknown.
pub fn mean(ratios: &[Option<f64>]) -> Option<f64> {
    let sum: Option<f64> = ratios.iter().copied().sum();
    sum.filter(|_| !ratios.is_empty()).map(|sum| micro(sum / ratios.len() as f64))
}

/// Rounds to six decimals; no measured ratio or rate is more exact.
pub fn micro(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
