//! `vmstat-json`: virtual memory statistics.
//!
//! Reads /proc/vmstat, /proc/meminfo, /proc/swaps and zram on Linux, runs `vm_stat` on macOS, and on any system reads
//! recorded output of `vm_stat`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;

#[cfg(not(target_os = "linux"))]
use telepipe::bail_usage;
use telepipe::collect::vm_stat::{self, Parsed};
use telepipe::common::diag::{excerpt, log};
use telepipe::common::emit::Emitter;
use telepipe::common::input::Input;
use telepipe::common::lines::{Line, Splitter};
use telepipe::common::options::Common;
use telepipe::common::program::Program;
use telepipe::common::stop::Stop;
use telepipe::common::time::Timestamp;
use telepipe::record::{Kind, LOST, MAX_LINE, STATUS, SWAP, VMSTAT, Vmstat, ZRAM};

/// Print virtual memory statistics of Linux, or of macOS's vm_stat, as JSON lines
#[derive(Parser)]
#[command(name = "vmstat-json")]
struct VmstatJson {
    #[command(flatten)]
    common: Common,

    /// Read recorded output of vm_stat from FILE, or from stdin if FILE is -
    #[arg(long, help_heading = "Input", value_name = "FILE", conflicts_with = "duration")]
    input: Option<PathBuf>,

    /// Report a cgroup (version 2), by its folder or its path such as /system.slice
    #[arg(long, help_heading = "Input", value_name = "PATH", conflicts_with = "input")]
    cgroup: Option<String>,
}

impl Program for VmstatJson {
    const KINDS: &'static [&'static Kind] = &[&VMSTAT, &SWAP, &ZRAM, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Page faults per second and free memory", "vmstat-json | jq -c '[.faults_per_s, .free_bytes]'"),
        ("One record, with rates over one second", "vmstat-json --once -i 1s"),
        ("Statistics of a Mac, over ssh", "ssh mac vm_stat 1 | vmstat-json --input - --host mac -i 1s"),
    ];
    const NOTES: &'static str = include_str!("vmstat-json.md");

    fn run(self) -> Result<()> {
        let stop = self.common.stop()?;
        match &self.input {
            Some(path) => {
                let input = Input::open(path, &stop)?;
                self.recorded(input)
            }
            None => self.live(&stop),
        }
    }
}

impl VmstatJson {
    /// Reads recorded output to its end.
    fn recorded(&self, mut input: Input) -> Result<()> {
        let mut out = self.common.emitter_of_recording()?;
        let mut reader = Reader::new(self);
        let mut lines = Splitter::new(MAX_LINE);
        while !reader.done()
            && let Some(piece) = input.piece().context("cannot read the input")?
        {
            lines.feed(piece, |line| match line {
                Line::Whole(line) => reader.take(line, &mut out),
                Line::Part { last, .. } => {
                    reader.unknown += u64::from(last);
                    Ok(())
                }
            })?;
            if !input.ready() {
                out.flush()?;
            }
        }
        reader.end(lines.partial(), &mut out)?;
        out.finish(self.common.verbose)
    }

    #[cfg(target_os = "linux")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use telepipe::collect::virtual_memory::{CgroupCollector, VirtualMemoryCollector};
        use telepipe::collect::{Collector, Roots, sampler};
        use telepipe::common::program::Usage;

        let roots = Roots::new(&self.common.proc_root, &self.common.sys_root).map_err(Usage)?;
        let source: Box<dyn Collector> = match &self.cgroup {
            Some(path) => Box::new(CgroupCollector::new(path, &roots)?),
            None => Box::new(VirtualMemoryCollector::new(&roots)),
        };
        sampler::run(&self.common, &roots, &mut [source], &|_| true, self.common.emitter()?, stop)
    }

    /// Runs `vm_stat` for each sample, because its interval form rounds large numbers.
    #[cfg(target_os = "macos")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use telepipe::collect::{Roots, boot_time, sampler};
        use telepipe::common::program::Usage;
        use telepipe::common::schedule::Ticker;
        use telepipe::record::Reason;

        if self.cgroup.is_some() {
            bail_usage!("--cgroup: macOS has no cgroups");
        }
        let roots = Roots::new(&self.common.proc_root, &self.common.sys_root).map_err(Usage)?;
        let mut out = self.common.emitter()?;
        let mut reader = Reader::new(self);
        reader.start = boot_time(&roots);
        let mut sampled = None;
        let mut ticker = Ticker::immediate(self.common.schedule(sampler::INTERVAL));
        while let Some(tick) = ticker.next(stop) {
            let now = std::time::Instant::now();
            reader.interval = sampled.replace(now).map(|before| now - before);
            reader.write = tick.write;
            match std::process::Command::new("vm_stat").output() {
                Ok(done) if done.status.success() => {
                    for line in done.stdout.split(|&byte| byte == b'\n') {
                        reader.take(line, &mut out)?;
                    }
                    reader.end(None, &mut out)?;
                }
                Ok(done) => {
                    let why = excerpt(&done.stderr);
                    out.status(Timestamp::now(), "vm_stat", Reason::Unsupported, &why)?;
                }
                Err(error) => out.status(Timestamp::now(), "vm_stat", Reason::Absent, &error.to_string())?,
            }
            out.flush()?;
        }
        out.finish(self.common.verbose)
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn live(&self, _: &Stop) -> Result<()> {
        bail_usage!("this system is not supported; use --input with recorded output of vm_stat")
    }
}

/// Turns lines of `vm_stat` into records.
struct Reader {
    parser: vm_stat::Parser,
    start: Option<Timestamp>,
    interval: Option<Duration>,
    write: bool,
    verbose: bool,
    /// How many samples are left to write.
    left: Option<u64>,
    unknown: u64,
}

impl Reader {
    fn new(program: &VmstatJson) -> Self {
        Self {
            parser: vm_stat::Parser::default(),
            start: None,
            interval: program.common.interval,
            write: true,
            verbose: program.common.verbose,
            left: if program.common.once { Some(1) } else { program.common.count },
            unknown: 0,
        }
    }

    fn done(&self) -> bool {
        self.left == Some(0)
    }

    fn take(&mut self, line: &[u8], out: &mut Emitter) -> Result<()> {
        if self.done() {
            return Ok(());
        }
        let parsed = self.parser.line(line);
        self.parsed(parsed, line, out)
    }

    fn end(&mut self, rest: Option<&[u8]>, out: &mut Emitter) -> Result<()> {
        if let Some(rest) = rest
            && !self.done()
        {
            let parsed = self.parser.rest(rest);
            self.parsed(parsed, rest, out)?;
        }
        if !self.done() {
            let parsed = self.parser.finish();
            self.parsed(parsed, b"", out)?;
        }
        let unknown = std::mem::take(&mut self.unknown);
        out.lost(Timestamp::now(), "vm_stat line", unknown)
    }

    fn parsed(&mut self, parsed: Parsed, line: &[u8], out: &mut Emitter) -> Result<()> {
        match parsed {
            Parsed::Yes => Ok(()),
            Parsed::Sample(sample) => self.sample(&sample, out),
            Parsed::No => {
                self.unknown += 1;
                if self.verbose {
                    log(format_args!("line not understood: {}", excerpt(line)));
                }
                Ok(())
            }
        }
    }

    fn sample(&mut self, sample: &vm_stat::Sample, out: &mut Emitter) -> Result<()> {
        let mut record = Vmstat { start_ts: self.start, ..Vmstat::default() };
        sample.counts.fill(&mut record, sample.page_size);
        record.consistent = sample.counts.consistent();
        if let (Some(added), Some(interval)) = (&sample.added, self.interval) {
            added.fill_rates(interval, &mut record);
        }
        let rows = || sample.rows.iter().map(|(name, count)| (name, *count)).collect();
        record.rows = (!sample.rows.is_empty()).then(rows);
        if self.write {
            self.left = self.left.map(|left| left.saturating_sub(1));
            out.emit(Timestamp::now(), &record)?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<VmstatJson>()
}
