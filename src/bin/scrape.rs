//! `scrape`: what the kernel counts about this machine, every second.
//!
//! Reads /proc, /sys and netlink on Linux; writes one record per thing measured.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, Parser};

use telepipe::collect::{Collector, Roots, Sample, Settings, boot_time, collectors, url};
use telepipe::common::diag::log;
use telepipe::common::emit::Emitter;
use telepipe::common::options::Common;
use telepipe::common::program::Generate;
use telepipe::common::program::{Program, Usage};
use telepipe::common::schedule::Ticker;
use telepipe::common::stop::Stop;
use telepipe::common::time::Timestamp;
use telepipe::record::{
    CPU, DISK, FILESYSTEM, HOST, INTERFACE, KERNEL, Kind, LOAD, LOST, MEMORY, METRIC, NETDEV, PAGING,
    PRESSURE, PROCESS, PROCESSES, Reason, SNAPSHOT, SOCKETS, STATUS, TCP, UDP,
};

/// How often to sample, if nobody says.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often what hardly ever changes is told again.
const INVENTORY_EVERY: Duration = Duration::from_secs(3600);

const CAVEATS: &str = "With --url only the endpoints are asked, unless --only names kinds of this machine \
    beside metric or snapshot. An endpoint has as long to answer as --interval says, 10 seconds at most and with \
    --once. host stays the host that scrape runs on; the attribute instance of a metric, and the field url of a \
    snapshot, name the endpoint. A label that is itself called instance becomes exported_instance. Counters of an \
    endpoint have a start_ts only where the endpoint gives one, as OpenMetrics can (_created): the start of an \
    exporter is not when the counts that it exports began. NaN and infinite values are left out and counted as \
    lost. https trusts the system's certificate authorities; SSL_CERT_FILE names others. Proxies of the \
    environment are not used.\n\n\
    Sums: add up disk and netdev over the records whose whole is true, and nothing is counted twice. Loop, RAM, zram \
    and network block devices, optical and floppy drives are left out until they have done any I/O. Of several \
    mounts of one file system (bind mounts, subvolumes) one is written; the kernel's own file systems, those \
    without a size, what lies under /dev, /proc, /sys and the stores of container engines, and, but for the root, \
    overlays and read-only images are left out. The data sets of a ZFS pool share its free space, and a tmpfs is \
    memory.\n\n\
    A mount that does not answer within half a second is told in a status record and left out until it answers. \
    Where a daemon or a server answers for a file system, a process of its own asks it (telepipe-statvfs).\n\n\
    netdev, tcp, udp and sockets are those of the network namespace that scrape runs in. With another --proc-root \
    or --sys-root there are no file systems, and TCP sockets are read from net/tcp and tcp6, as they are where \
    netlink is refused.\n\n\
    macOS has the kinds host, interface, cpu, load, memory, filesystem and netdev, with fewer fields: the time of \
    a CPU is told as utilization_ratio and idle_ratio only.";

const OVERHEAD: &str = "Measured by scripts/bench on two virtual CPUs of an AMD EPYC under Linux 6.18, one sample a \
    second: 1.0 ms of CPU time per sample, sockets by state included; 6 MiB of memory; the first line 6 ms after the \
    start. At the same time prometheus-node-exporter with the same collectors took 5.5 ms and 20 MiB.\n\n\
    Sockets by state are the dearest part, as the kernel walks its table of connections. Dearer than all together is \
    --processes, which opens a file of every process.";

/// CPU, memory, disks, file systems and network of this machine, as JSON lines
#[derive(Parser)]
#[command(name = "scrape")]
struct Scrape {
    #[command(flatten)]
    common: Common,

    /// Only these kinds of records
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = KindName::default())]
    only: Vec<String>,

    /// All kinds but these
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = KindName::default())]
    except: Vec<String>,

    /// Ask this HTTP endpoint (Prometheus text, OpenMetrics or JSON) and not this machine; repeatable
    #[arg(long, value_name = "URL")]
    url: Vec<String>,

    /// A `cpu` record for each CPU beside the total
    #[arg(long)]
    per_cpu: bool,

    /// Look at every process: how many in which state, and those that use most CPU and memory
    #[arg(long)]
    processes: bool,

    /// Tell of so many processes by CPU, and as many by memory [default: 5]; implies --processes
    #[arg(long, value_name = "N")]
    top: Option<usize>,
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
        ("Load averages, now", "scrape --once --only load"),
        (
            "For cron: CPU use and disk rates over one second, and nothing else",
            "scrape --once -i 1s --only cpu,disk",
        ),
        (
            "The three processes that use most CPU, and most memory",
            "scrape --once -i 1s --only process --top 3",
        ),
        (
            "What two exporters say, every 15 seconds",
            "scrape -i 15s --url http://db1:9100/metrics --url http://db2:9100/metrics",
        ),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    fn generate(&self) -> Option<Generate> {
        self.common.generate.what
    }

    fn run(self) -> Result<()> {
        let settings = self.settings()?;
        let stop = self.common.stop()?;
        let mut sources = self.sources(&settings, &stop)?;
        self.sample(&mut sources, &settings.roots, &stop)
    }
}

impl Scrape {
    fn settings(&self) -> Result<Settings> {
        let Common { proc_root, sys_root, .. } = &self.common;
        let roots = Roots::new(proc_root, sys_root).map_err(Usage)?;
        let top = self.processes().then_some(self.top.unwrap_or(5));
        Ok(Settings { roots, per_cpu: self.per_cpu, top })
    }

    /// Asked for, by the option or by name: a walk through /proc costs more than all the rest.
    fn processes(&self) -> bool {
        let named = |kind: &Kind| self.only.iter().any(|name| name == kind.name);
        self.processes || self.top.is_some() || named(&PROCESSES) || named(&PROCESS)
    }

    fn wants(&self, kind: &Kind) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == kind.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.except)
    }

    /// What to ask: this machine, or the endpoints, which come last as they may be slow.
    fn sources(&self, settings: &Settings, stop: &Stop) -> Result<Vec<Box<dyn Collector>>> {
        let named = |kind: &&Kind| self.only.iter().any(|name| name == kind.name);
        if let Some(kind) = url::KINDS.iter().copied().find(named).filter(|_| self.url.is_empty()) {
            return Err(Usage(format!(
                "--only {}: that is what an endpoint says; name one by --url",
                kind.name
            ))
            .into());
        }
        let machine = self.url.is_empty() || !self.only.is_empty();
        let mut sources = if machine { collectors(settings) } else { Vec::new() };
        if !self.url.is_empty() {
            let interval = self.common.interval.unwrap_or(INTERVAL);
            let wait = if self.common.once { url::MAX_WAIT } else { interval.min(url::MAX_WAIT) };
            sources.push(url::collector(&self.url, wait, stop)?);
        }
        sources.retain(|source| source.kinds().iter().any(|kind| self.wants(kind)));
        if sources.is_empty() {
            return Err(Usage("--only and --except leave nothing to measure".into()).into());
        }
        if !self.url.is_empty() && !url::KINDS.iter().any(|kind| self.wants(kind)) {
            let message = "--url gives metric and snapshot records, and --only or --except leaves them out";
            return Err(Usage(message.into()).into());
        }
        Ok(sources)
    }

    /// Says that a tree is missing, to those who want something of it.
    fn tell_missing(&self, roots: &Roots, out: &mut Emitter) -> Result<()> {
        let of_sys = [&HOST, &INTERFACE, &DISK, &NETDEV];
        match roots.missing() {
            Some(option) if option == "--proc-root" || of_sys.iter().any(|kind| self.wants(kind)) => {
                let detail = format!("name {option} too; without it nothing is read there");
                out.status(Timestamp::now(), option, Reason::Absent, &detail)
            }
            _ => Ok(()),
        }
    }

    /// Says how the kinds that are wanted are measured.
    fn tell_methods(&self, sources: &[Box<dyn Collector>]) {
        for source in sources {
            let kinds = source.kinds().iter().filter(|kind| self.wants(kind)).map(|kind| kind.name);
            let kinds: Vec<_> = kinds.collect();
            log(format_args!("{}: {}", kinds.join(", "), source.method()));
        }
    }

    /// Asks every source at every tick.
    fn sample(&self, sources: &mut [Box<dyn Collector>], roots: &Roots, stop: &Stop) -> Result<()> {
        let mut out = self.common.emitter()?;
        let boot = boot_time(roots);
        self.tell_missing(roots, &mut out)?;
        let wanted = |kind: &Kind| self.wants(kind);
        let (mut sampled, mut told) = (None::<Instant>, None::<Instant>);
        let mut ticker = Ticker::immediate(self.common.schedule(INTERVAL));
        while let Some(tick) = ticker.next(stop) {
            let now = Instant::now();
            let interval = sampled.replace(now).map(|before| now - before);
            let inventory = tick.write && told.is_none_or(|told| now - told >= INVENTORY_EVERY);
            if inventory {
                told = Some(now);
            }
            let sample = Sample {
                ts: Timestamp::now(),
                boot,
                interval,
                write: tick.write,
                inventory,
                wanted: &wanted,
            };
            for source in &mut *sources {
                source.collect(&sample, &mut out)?;
            }
            out.flush()?;
            if self.common.verbose && interval.is_none() {
                self.tell_methods(sources);
            }
        }
        out.finish(self.common.verbose)
    }
}

/// Takes the name of a kind that can be chosen: status and lost are told whatever is measured.
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
        // Blanks beside the commas are no part of a name.
        let name = value.to_str().map_or(value, |name| OsStr::new(name.trim()));
        self.0.parse_ref(command, arg, name)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<Scrape>()
}
