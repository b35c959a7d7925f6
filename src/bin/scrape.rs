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

const CAVEATS: &str = "disk and netdev records: to get the machine's total, add up the records in which whole is \
    true; then nothing is counted twice. Loop, RAM, zram and network block devices, optical and floppy drives are left \
    out until they have done I/O, and detached loop, zram and network block devices always.\n\n\
    filesystem records leave out the kernel's own file systems, those without a size, everything under /dev, /proc, \
    /sys and the stores of container engines, and, except for the root, overlays and read-only images. If a file \
    system is mounted several times (bind mounts, subvolumes), one mount is reported. The data sets of a ZFS pool \
    share its free space, and a tmpfs is memory. A mount that does not answer within half a second becomes a status \
    record and is skipped until it answers. File systems that need a daemon or a server are queried by a helper \
    process (telepipe-statvfs).\n\n\
    netdev, tcp, udp and sockets records describe the network namespace that scrape runs in. With another --proc-root \
    or --sys-root there are no filesystem records, and TCP sockets are read from net/tcp and net/tcp6, as they are \
    where netlink is refused.\n\n\
    If /proc is mounted with hidepid and scrape may not see all processes, there is no processes record, and process \
    records are those of the visible processes; a status record reports it. total_tasks in the load record counts all \
    threads of the machine nevertheless.\n\n\
    While a CPU goes offline or comes back, the kernel's total of CPU time jumps; the cpu record of that interval has \
    no ratios.\n\n\
    --url: only the endpoints are read, unless --only names kinds of this machine in addition to metric or snapshot. \
    An endpoint must answer within the interval, at most 10 seconds; with --once, within 10 seconds. With --once the \
    exit code is 1 if an endpoint gave nothing; otherwise, when the run ends by itself, if none ever gave anything. \
    host stays the host that scrape runs on; the attribute instance of a metric, and the field url of a snapshot, name \
    the endpoint. A label called instance becomes exported_instance. Counters have a start_ts only where the endpoint \
    reports one (_created in OpenMetrics), because an exporter can start later than the counts that it exports. NaN \
    and infinite values are left out and counted as lost. https uses the system's certificate authorities; \
    SSL_CERT_FILE names others. HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are used as by curl; loopback \
    addresses are always reached directly.\n\n\
    macOS has the kinds host, interface, cpu, load, memory, filesystem and netdev, with fewer fields: cpu records have \
    only utilization_ratio and idle_ratio.";

const OVERHEAD: &str = "Measured by scripts/bench on two virtual CPUs of an AMD EPYC under Linux 6.18, one sample a \
    second: 1.0 ms of CPU time per sample, including sockets by state; 6 MiB of memory; the first line 6 ms after the \
    start. prometheus-node-exporter with the same collectors took 5.5 ms and 20 MiB in the same run.\n\n\
    Sockets by state are the most expensive part, because the kernel walks its table of connections. --processes costs \
    more than everything else together, because it opens a file of every process.";

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
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

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
