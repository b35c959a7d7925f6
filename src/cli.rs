//! The command line that all programs share, and the one place that decides exit codes.
//!
//! A program is a struct that derives [`clap::Parser`] and implements
//! [`Program`]; its `main` is `telepipe::cli::main::<Args>()`. From the same
//! declaration come parser, help, man page and completions.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser};

use crate::emit::Emitter;
use crate::filter::Filter;
use crate::generate::{self, Generate};
use crate::opened;
use crate::record::Kind;
use crate::say::say;
use crate::stop::{GRACE, Stop};
use crate::ticker::Schedule;

/// What a program declares.
pub trait Program: Parser {
    /// The kinds of records it writes: the FIELDS section of its man page, and its schema.
    const KINDS: &'static [&'static Kind];
    /// `(what for, command line)`: the EXAMPLES section.
    const EXAMPLES: &'static [(&'static str, &'static str)];
    /// More sections of the man page, as `(heading, paragraphs)`: OVERHEAD, CAVEATS …
    const NOTES: &'static [(&'static str, &'static str)];

    /// What `--generate` asks for.
    fn generate(&self) -> Option<Generate>;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever ends the program early; a [`Usage`] inside makes the exit code 2.
    fn run(self) -> Result<()>;
}

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

    /// Run the filter on status and lost records too
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
        self.emitter_as(self.host.as_deref().unwrap_or(UNKNOWN_HOST))
    }

    fn emitter_as(&self, host: &str) -> Result<Emitter> {
        opened::stdout()?;
        let filter = self.filter.as_deref().map(Filter::new).transpose();
        let filter = filter.map_err(|message| Usage(format!("--filter: {message}")))?;
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

/// A mistake in how the program was called: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

static NAME: OnceLock<String> = OnceLock::new();

/// The program's name, which opens its lines on stderr.
pub fn name() -> &'static str {
    NAME.get().map_or("telepipe", String::as_str)
}

/// Parses the command line, runs the program and says how it ended.
pub fn main<P: Program>() -> ExitCode {
    #[cfg(target_os = "linux")]
    if crate::collect::statvfs::is_helper() {
        return ExitCode::from(u8::from(crate::collect::statvfs::help().is_err()));
    }
    let command = generate::command::<P>();
    let _ = NAME.set(command.get_name().to_owned());
    let program = match command.try_get_matches().and_then(|found| P::from_arg_matches(&found)) {
        Ok(program) => program,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            say(format_args!("{}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
            return ExitCode::from(2);
        }
        Err(help) => {
            let printed = help.print().context("cannot write to stdout");
            return ended(printed);
        }
    };
    let result = match program.generate() {
        Some(what) => opened::stdout().and_then(|()| generate::write::<P>(what)),
        None => program.run(),
    };
    ended(result)
}

/// The exit code, and on stderr why it is not 0.
fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Whether the failure is only that nobody reads any more.
fn reader_left(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(broken)
}

const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Reads `500us`, `10ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// What is wrong with it, for clap to print.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_none(text) {
        Ok(time) if time.is_zero() => Err("must be longer than nothing".into()),
        result => result,
    }
}

/// The same, but it may be 0: everything is at least as long.
///
/// # Errors
/// What is wrong with it, for clap to print.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    let days = || text.strip_suffix('d')?.parse::<f64>().ok().map(|days| days * 86_400.0);
    let plain = || text.parse().ok().or_else(days).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    let friendly = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    match plain().or_else(friendly).filter(|_| !text.contains(',')) {
        Some(time) if time > LONGEST => Err("must be at most ten years".into()),
        Some(time) => Ok(time),
        None => Err("not a time; write 500us, 10ms, 1.5s or 2m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("500us", 500_000),
            ("10ms", 10_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0.25", 250_000_000),
            ("1.5d", 129_600_000_000_000),
        ] {
            assert_eq!(duration(text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
        }
        for text in ["", "1,5s", "1e19", "d", "0s", "-1s", "ten", "1e999", "nan", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
            assert_eq!(duration_or_none(text).ok(), (text == "0s").then_some(Duration::ZERO), "{text}");
        }
    }
}
