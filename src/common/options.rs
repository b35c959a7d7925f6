//! Command-line options that every producer has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::bail_usage;
use crate::common::emit::Emitter;
use crate::common::filter::{self, Filter};
use crate::common::program::{Generate, Usage};
use crate::common::schedule::Schedule;
use crate::common::stdio_check;
use crate::common::stop::{GRACE, Stop};
use crate::common::units::duration;

/// Options of every producer.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Time between samples, such as 500us, 10ms, 1.5s, 2m [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Sampling")]
    pub interval: Option<Duration>,

    /// Stop after N samples
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Sampling")]
    pub count: Option<u64>,

    /// Take one sample; with --interval, sample twice and write once, with rates
    #[arg(long, conflicts_with_all = ["count", "duration"], help_heading = "Sampling")]
    pub once: bool,

    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Sampling")]
    pub duration: Option<Duration>,

    /// Run a jq program on each record and write its outputs
    ///
    /// status and lost records then go to stderr, so that stdout has only what the program selects. One record may
    /// use one second of CPU time and 512 MiB of memory. See FILTER in telepipe(7).
    #[arg(short, long, value_name = "JQ", allow_hyphen_values = true, help_heading = "Output")]
    pub filter: Option<String>,

    /// Write strings that the filter outputs without quotes
    #[arg(short, long, visible_alias = "raw", requires = "filter", help_heading = "Output")]
    pub raw_output: bool,

    /// Run the filter on status and lost records too
    #[arg(long, requires = "filter", help_heading = "Output", hide_short_help = true)]
    pub filter_all: bool,

    /// Set the host name in the records [default: this host's]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new(), help_heading = "Output")]
    pub host: Option<String>,

    /// Log to stderr which hooks and sources are used
    #[arg(short, long, help_heading = "Output")]
    pub verbose: bool,

    /// Read the proc file system here instead of /proc
    ///
    /// With a different root, nothing is read from this machine: no netlink, statvfs or uname.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide_default_value = true)]
    #[arg(help_heading = "Advanced", hide_short_help = true)]
    pub proc_root: PathBuf,

    /// Read the sys file system here instead of /sys
    #[arg(long, value_name = "DIR", default_value = "/sys", hide_default_value = true)]
    #[arg(help_heading = "Advanced", hide_short_help = true)]
    pub sys_root: PathBuf,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the help's heading")]
    pub generate: GenerateArg,
}

/// The option `--generate`, of every program.
#[derive(Args, Clone, Debug)]
pub struct GenerateArg {
    /// Print the man page, the JSON schema of the records, or shell completions
    ///
    /// WHAT is man, schema, completions-bash, completions-zsh or completions-fish.
    #[arg(id = "generate", long = "generate", value_name = "WHAT", exclusive = true)]
    #[arg(hide_possible_values = true, help_heading = "Advanced", hide_short_help = true)]
    pub what: Option<Generate>,
}

impl Common {
    /// When to sample; `default_interval` is the program's.
    pub fn schedule(&self, default_interval: Duration) -> Schedule {
        let Self { interval, count, once, duration, .. } = *self;
        Schedule { interval, default_interval, count, once, duration }
    }

    /// Whether the roots are not this machine's, so that nothing else may be read from it.
    pub fn foreign(&self) -> bool {
        self.proc_root != Path::new("/proc") || self.sys_root != Path::new("/sys")
    }

    /// Refuses other roots, for what is measured in the running kernel.
    ///
    /// # Errors
    /// [`Usage`] if other roots were given.
    pub fn refuse_foreign(&self, what: &str) -> Result<()> {
        if self.foreign() {
            bail_usage!("--proc-root, --sys-root: {what} in the running kernel, not read from files");
        }
        Ok(())
    }

    /// Opens the output for records of this machine.
    ///
    /// # Errors
    /// [`Usage`] for a bad filter; if stdout is closed.
    pub fn emitter(&self) -> Result<Emitter> {
        self.emitter_as(&self.host_name())
    }

    /// Opens the output for a recording, which names no host: it is `unknown` unless `--host` names it.
    /// A recording of which nothing is understood is an error in the end.
    ///
    /// # Errors
    /// As [`Common::emitter`].
    pub fn emitter_of_recording(&self) -> Result<Emitter> {
        let mut out = self.emitter_as(self.host.as_deref().unwrap_or(UNKNOWN_HOST))?;
        out.require_records();
        Ok(out)
    }

    fn emitter_as(&self, host: &str) -> Result<Emitter> {
        stdio_check::stdout()?;
        let filter = self.filter.as_deref().map(|code| Filter::new(code, self.raw_output));
        let filter = filter.transpose().map_err(|error| match error {
            filter::Error::Program(message) => Usage(format!("--filter: {message}")).into(),
            filter::Error::Process(error) => error,
        })?;
        Ok(Emitter::new(host, filter, self.filter_all))
    }

    /// Starts watching for signals and for a reader that leaves.
    ///
    /// # Errors
    /// If the system refuses a thread or a socket pair.
    pub fn stop(&self) -> Result<Stop> {
        Stop::install(GRACE, true).context("cannot watch for signals")
    }

    fn host_name(&self) -> String {
        if let Some(host) = &self.host {
            return host.clone();
        }
        if self.foreign() {
            // /proc itself has this machine's name.
            let recorded = (self.proc_root != Path::new("/proc"))
                .then(|| std::fs::read(self.proc_root.join("sys/kernel/hostname")).ok());
            let text = recorded.flatten().unwrap_or_else(|| UNKNOWN_HOST.into());
            return String::from_utf8_lossy(&text).trim().to_owned();
        }
        this_host()
    }
}

/// The host name in records where nothing names the host.
const UNKNOWN_HOST: &str = "unknown";

/// The name of this host.
pub fn this_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
