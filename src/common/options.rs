//! The command-line options that every producer has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

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
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub interval: Option<Duration>,

    /// End after N samples
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Take one sample; with --interval, sample twice that far apart and write once, rates included
    #[arg(long, conflicts_with_all = ["count", "duration"])]
    pub once: bool,

    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Run a jq program on each record, and write what it gives
    #[arg(short, long, value_name = "JQ", allow_hyphen_values = true)]
    pub filter: Option<String>,

    /// Write strings that the filter gives without quotes
    #[arg(short, long, visible_alias = "raw", requires = "filter")]
    pub raw_output: bool,

    /// Run the filter on status and lost records too; without this they go to stderr
    #[arg(long, requires = "filter")]
    pub filter_all: bool,

    /// The host name that records carry [default: this host's]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub host: Option<String>,

    /// Where the proc file system is; of another tree than /proc, nothing of this machine is mixed in
    #[arg(long, value_name = "DIR", default_value = "/proc", hide_default_value = true)]
    pub proc_root: PathBuf,

    /// Where the sys file system is; likewise
    #[arg(long, value_name = "DIR", default_value = "/sys", hide_default_value = true)]
    pub sys_root: PathBuf,

    /// Say on stderr how things are measured
    #[arg(short, long)]
    pub verbose: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the help's heading")]
    pub generate: GenerateArg,
}

/// The option `--generate`, of every program.
#[derive(Args, Clone, Debug)]
pub struct GenerateArg {
    /// Print man (the page), schema (of the records), or completions-bash, -zsh or -fish
    #[arg(
        id = "generate",
        long = "generate",
        value_name = "WHAT",
        exclusive = true,
        hide_possible_values = true
    )]
    pub what: Option<Generate>,
}

impl Common {
    /// How often to sample, where `default_interval` is the program's.
    pub fn schedule(&self, default_interval: Duration) -> Schedule {
        let Self { interval, count, once, duration, .. } = *self;
        Schedule { interval, default_interval, count, once, duration }
    }

    /// True if nothing of this machine may be read but what the two roots hold.
    pub fn foreign(&self) -> bool {
        self.proc_root != Path::new("/proc") || self.sys_root != Path::new("/sys")
    }

    /// For what is measured in the running kernel, and not read from files.
    ///
    /// # Errors
    /// [`Usage`] if other roots were given.
    pub fn refuse_foreign(&self, what: &str) -> Result<()> {
        if self.foreign() {
            let text = format!("--proc-root, --sys-root: {what} in the running kernel, not in files");
            return Err(Usage(text).into());
        }
        Ok(())
    }

    /// Where records go.
    ///
    /// # Errors
    /// [`Usage`] for a bad filter; if stdout is closed.
    pub fn emitter(&self) -> Result<Emitter> {
        self.emitter_as(&self.host_name())
    }

    /// Where the records of a recording go. Which host was recorded it does not say, so that it is `unknown` unless
    /// `--host` names it.
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
            // Of /proc itself it would be this machine's.
            let recorded = (self.proc_root != Path::new("/proc"))
                .then(|| std::fs::read(self.proc_root.join("sys/kernel/hostname")).ok());
            let text = recorded.flatten().unwrap_or_else(|| UNKNOWN_HOST.into());
            return String::from_utf8_lossy(&text).trim().to_owned();
        }
        this_host()
    }
}

/// The name of a host that nothing names.
const UNKNOWN_HOST: &str = "unknown";

/// The name of the host we run on.
pub fn this_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
