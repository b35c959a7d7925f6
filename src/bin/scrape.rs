//! `scrape`: metrics of this machine, every second.
//!
//! Reads /proc, /sys and netlink on Linux, and HTTP endpoints with `--url`.

use std::ffi::OsStr;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Arg, Command, Parser};

use telepipe::bail_usage;
#[cfg(target_os = "linux")]
use telepipe::collect::statvfs;
use telepipe::collect::{Collector, Roots, Settings, collectors, sampler, url};
use telepipe::common::emit::Emitter;
use telepipe::common::options::Common;
use telepipe::common::program::{Program, Usage};
use telepipe::common::stop::Stop;
use telepipe::common::time::Timestamp;
use telepipe::record::{
    CPU, DISK, FILESYSTEM, HOST, INTERFACE, KERNEL, Kind, LOAD, LOST, MEMORY, METRIC, NETDEV, PAGING,
    PRESSURE, PROCESS, PROCESSES, Reason, SNAPSHOT, SOCKETS, STATUS, TCP, UDP,
};

/// Print CPU, memory, disk, file system and network metrics as JSON lines
#[derive(Parser)]
#[command(name = "scrape")]
struct Scrape {
    #[command(flatten)]
    common: Common,

    /// Emit only these kinds of records
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = KindName::default())]
    #[arg(help_heading = "Filters")]
    only: Vec<String>,

    /// Leave out these kinds of records, from the same list
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = KindName::default())]
    #[arg(help_heading = "Filters", hide_possible_values = true)]
    except: Vec<String>,

    /// Read this HTTP endpoint (Prometheus, OpenMetrics or JSON), not this machine; repeatable
    #[arg(long, value_name = "URL", help_heading = "Sources")]
    url: Vec<String>,

    /// Emit a cpu record for each CPU in addition to the total
    #[arg(long, help_heading = "Sources")]
    per_cpu: bool,

    /// Read all processes: their number by state, and the top ones by CPU and memory
    #[arg(long, help_heading = "Sources")]
    processes: bool,

    /// Emit the top N processes by CPU and by memory [default: 5]; implies --processes
    #[arg(long, value_name = "N", value_parser = at_least_one(), help_heading = "Sources")]
    top: Option<usize>,

    /// Leave out the command lines of processes, which can contain secrets
    #[arg(long, help_heading = "Sources")]
    no_cmdline: bool,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(1..)
}

impl Program for Scrape {
    const KINDS: &'static [&'static Kind] = &[
        &HOST,
        &INTERFACE,
        &CPU,
        &KERNEL,
        &LOAD,
        &PRESSURE,
        &MEMORY,
        &PAGING,
        &DISK,
        &FILESYSTEM,
        &NETDEV,
        &TCP,
        &UDP,
        &SOCKETS,
        &PROCESSES,
        &PROCESS,
        &METRIC,
        &SNAPSHOT,
        &STATUS,
        &LOST,
    ];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Print the load averages", "scrape --once --only load"),
        (
            "From cron: CPU utilization and disk rates, measured over one second",
            "scrape --once -i 1s --only cpu,disk",
        ),
        ("Print the top three processes by CPU and by memory", "scrape --once -i 1s --only process --top 3"),
        (
            "Read two exporters every 15 seconds",
            "scrape -i 15s --url http://db1:9100/metrics --url http://db2:9100/metrics",
        ),
    ];
    const NOTES: &'static str = include_str!("scrape.md");

    fn run(self) -> Result<()> {
        let settings = self.settings()?;
        let stop = self.common.stop()?;
        let mut sources = self.sources(&settings, &stop)?;
        let mut out = self.common.emitter()?;
        self.report_missing(&settings.roots, &mut out)?;
        let wanted = |kind: &Kind| self.wants(kind);
        sampler::run(&self.common, &settings.roots, &mut sources, &wanted, out, &stop)?;
        if stop.asked() {
            return Ok(());
        }
        sources.iter().try_for_each(|source| source.check(self.common.once))
    }
}

impl Scrape {
    fn settings(&self) -> Result<Settings> {
        let Common { proc_root, sys_root, .. } = &self.common;
        let roots = Roots::new(proc_root, sys_root).map_err(Usage)?;
        let top = self.processes().then_some(self.top.unwrap_or(5));
        Ok(Settings { roots, per_cpu: self.per_cpu, top, cmdline: !self.no_cmdline })
    }

    /// Only on request: the walk through /proc costs more than all other collectors.
    fn processes(&self) -> bool {
        let named = |kind: &Kind| self.only.iter().any(|name| name == kind.name);
        self.processes || self.top.is_some() || named(&PROCESSES) || named(&PROCESS)
    }

    fn wants(&self, kind: &Kind) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == kind.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.except)
    }

    /// The collectors: of this machine, then of the endpoints, which may be slow.
    fn sources(&self, settings: &Settings, stop: &Stop) -> Result<Vec<Box<dyn Collector>>> {
        let named = |kind: &&Kind| self.only.iter().any(|name| name == kind.name);
        if let Some(kind) = url::KINDS.iter().copied().find(named).filter(|_| self.url.is_empty()) {
            bail_usage!(
                "--only {}: only endpoints give records of this kind; name one with --url",
                kind.name
            );
        }
        let machine = self.url.is_empty() || !self.only.is_empty();
        let mut sources = if machine { collectors(settings) } else { Vec::new() };
        if !self.url.is_empty() {
            let interval = self.common.interval.unwrap_or(sampler::INTERVAL);
            let wait = if self.common.once { url::MAX_WAIT } else { interval.min(url::MAX_WAIT) };
            sources.push(url::collector(&self.url, wait, stop)?);
        }
        sources.retain(|source| source.kinds().iter().any(|kind| self.wants(kind)));
        if sources.is_empty() {
            bail_usage!("--only and --except leave no kind of record");
        }
        if !self.url.is_empty() && !url::KINDS.iter().any(|kind| self.wants(kind)) {
            bail_usage!("--url gives only metric and snapshot records, which --only or --except leaves out");
        }
        Ok(sources)
    }

    /// Reports that only one of the two roots was given, if a kind that needs the other is wanted.
    fn report_missing(&self, roots: &Roots, out: &mut Emitter) -> Result<()> {
        let from_sys = [&HOST, &INTERFACE, &DISK, &NETDEV];
        match roots.missing() {
            Some(option) if option == "--proc-root" || from_sys.iter().any(|kind| self.wants(kind)) => {
                let detail = format!("missing, so this tree is not read; give {option} too");
                out.status(Timestamp::now(), option, Reason::Absent, &detail)
            }
            _ => Ok(()),
        }
    }
}

/// Parses the name of a kind that can be selected: status and lost records are always written.
#[derive(Clone)]
struct KindName(PossibleValuesParser);

impl Default for KindName {
    fn default() -> Self {
        let kinds = Scrape::KINDS.iter().map(|kind| kind.name);
        Self(PossibleValuesParser::new(kinds.filter(|name| ![STATUS.name, LOST.name].contains(name))))
    }
}

impl TypedValueParser for KindName {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        // Allow blanks around the commas.
        let name = value.to_str().map_or(value, |name| OsStr::new(name.trim()));
        self.0.parse_ref(command, arg, name)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if telepipe::common::helper::is(statvfs::NAME) {
        return ExitCode::from(u8::from(statvfs::help().is_err()));
    }
    telepipe::common::entry::main::<Scrape>()
}
