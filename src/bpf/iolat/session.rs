//! A run of `iolat`: start, give up privileges, and report until told to stop.

use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::{Result, bail};

use super::report;
use super::{Activity, Devices, Found, Losses, Settings, Tracer};
use crate::bpf::clock::kernel_now;
use crate::bpf::pid_watch::PidWatch;
use crate::bpf::self_filter::SelfFilter;
use crate::bpf::session::{self, Interval, Output};
use crate::bpf::{load, privilege};
use crate::common::emit::Emitter;
use crate::common::options::Common;
use crate::common::program::Usage;
use crate::common::time::Timestamp;
use crate::record::Reason;

const SOURCE: &str = "block_rq_complete";
const WITHOUT_REQUESTS: &str =
    "has no requests of its own (device mapper, md, zram …): measure the disks below it";
const LATE_PARTITION: &str =
    "a partition, which was not there at the start: start again, or with --partitions, to measure it";
const LATE_DISK: &str = "a whole disk, while partitions are measured, and it was not there at the start: start again to measure it";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options of every producer.
    pub common: Common,
    /// Only these devices; all if empty.
    pub devices: Vec<String>,
    /// What the kernel program does. What the devices decide is filled in here.
    pub settings: Settings,
    /// Whether to write a record per interval.
    pub summary: bool,
    /// Whether these carry their distributions.
    pub histogram: bool,
}

/// Runs until the end that the options name, or a signal.
///
/// # Errors
/// If the kernel refuses, or stdout fails.
pub fn run(mut options: Options) -> Result<()> {
    let mut out = options.common.emitter()?;
    let devices = Devices::new(Path::new("/sys"));
    let wanted = Wanted::resolve(&options, &devices)?;
    options.settings.by_partition |= wanted.partitions;
    let pids = PidWatch::find(&options.settings.tasks)?;
    privilege::check(crate::common::diag::program_name())?;
    load::listen();
    let survey = devices.survey();
    options.settings.filter_devices = !options.devices.is_empty();
    options.settings.disks = survey.disks;
    options.settings.requests = survey.requests;
    options.settings.untimed = survey.untimed;
    let now = Timestamp::now();
    if !wanted.report(&mut out, now)? {
        out.flush()?;
        bail!("none of the devices asked for has requests that could be measured");
    }
    let mut tracer = Tracer::start(&options.settings)?;
    tracer.want(&wanted.numbers);
    let kept = privilege::drop_all(|| tracer.may_attach() && tracer.self_filter.works())?;
    if options.common.verbose {
        let kept = privilege::names(kept);
        crate::common::diag::log(format_args!("{}; capabilities kept: {kept}", tracer.describe()));
    }
    out.status(now, SOURCE, Reason::Active, &tracer.describe())?;
    let unseen = devices.without_requests().join(", ");
    if options.devices.is_empty() && !unseen.is_empty() {
        let detail =
            "have no requests of their own: what they do shows in the disks below them, if there are any";
        out.status(now, &unseen, Reason::Unsupported, detail)?;
    }
    let (common, events, began_ns) = (options.common.clone(), options.settings.events, tracer.began_ns());
    session::run(
        Session { options, tracer, devices, wanted, active: Vec::new(), untimed_told: false },
        &common,
        pids,
        Output::new(out, events),
        began_ns,
    )
}

/// The devices that were asked for by name.
#[derive(Debug, Default)]
struct Wanted {
    numbers: Vec<u32>,
    partitions: bool,
    absent: Vec<String>,
    without_requests: Vec<String>,
}

impl Wanted {
    fn resolve(options: &Options, devices: &Devices) -> Result<Self> {
        let mut wanted = Self { partitions: options.settings.by_partition, ..Self::default() };
        let mut disks = false;
        for name in &options.devices {
            match devices.find(name) {
                Found::Disk(number) => {
                    disks = true;
                    wanted.numbers.push(number);
                }
                Found::Partition(number) => {
                    wanted.partitions = true;
                    wanted.numbers.push(number);
                }
                Found::WithoutRequests => wanted.without_requests.push(name.clone()),
                Found::Absent => wanted.absent.push(name.clone()),
            }
        }
        if disks && wanted.partitions && !options.settings.by_partition {
            let text =
                "--device: a disk and a partition together; add --partitions to count I/O by partition";
            return Err(Usage(text.into()).into());
        }
        if options.devices.len() > Settings::MAX_DEVICES {
            return Err(Usage(format!("--device: at most {} devices", Settings::MAX_DEVICES)).into());
        }
        Ok(wanted)
    }

    /// Says what cannot be measured; false if nothing else was asked for.
    fn report(&self, out: &mut Emitter, now: Timestamp) -> Result<bool> {
        for name in &self.without_requests {
            out.status(now, name, Reason::Unsupported, WITHOUT_REQUESTS)?;
        }
        for name in &self.absent {
            out.status(now, name, Reason::Absent, "no such block device; it is measured once it appears")?;
        }
        Ok(self.without_requests.is_empty() || !self.numbers.is_empty() || !self.absent.is_empty())
    }

    /// Looks again for those that were absent: how many have come, and what to say of those that
    /// cannot be measured. What is counted, disks or partitions, was decided before they were there.
    fn look_again(&mut self, devices: &Devices) -> (usize, Vec<(String, &'static str)>) {
        let before = self.numbers.len();
        let mut unsupported = Vec::new();
        for name in std::mem::take(&mut self.absent) {
            match (devices.find(&name), self.partitions) {
                (Found::Disk(number), false) | (Found::Partition(number), true) => self.numbers.push(number),
                (Found::Partition(_), false) => unsupported.push((name, LATE_PARTITION)),
                (Found::Disk(_), true) => unsupported.push((name, LATE_DISK)),
                (Found::WithoutRequests, _) => unsupported.push((name, WITHOUT_REQUESTS)),
                (Found::Absent, _) => self.absent.push(name),
            }
        }
        (self.numbers.len() - before, unsupported)
    }
}

struct Session {
    options: Options,
    tracer: Tracer,
    devices: Devices,
    wanted: Wanted,
    /// What the interval that was ended last held.
    active: Vec<Activity>,
    /// The hooks for requests without times could not be added, which has been told.
    untimed_told: bool,
}

impl session::Tracer for Session {
    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tracer.ring_fd()
    }

    fn events(&mut self, output: &mut Output) -> Result<()> {
        self.tracer.events(|event| {
            let made =
                report::event(event, output.threshold, output.clock, &mut self.devices, &mut output.cgroups);
            made.map_or(Ok(()), |(ts, record)| output.emitter.emit(ts, &record))
        })
    }

    fn self_filter(&mut self) -> &mut SelfFilter {
        &mut self.tracer.self_filter
    }

    fn end_interval(&mut self) -> u64 {
        let (active, end_ns) = self.tracer.take(kernel_now);
        self.active = active;
        end_ns
    }

    fn report(&mut self, output: &mut Output, interval: Interval) -> Result<()> {
        if self.options.summary {
            let histogram = self.options.histogram;
            let mut records: Vec<_> = self
                .active
                .iter()
                .map(|activity| report::summary(activity, interval, &mut self.devices, histogram))
                .collect();
            records.sort_by(|a, b| (&a.device, a.op).cmp(&(&b.device, b.op)));
            for record in &records {
                output.emitter.emit(interval.end, record)?;
            }
        }
        self.losses(&mut output.emitter, interval.end)?;
        let (come, unsupported) = self.wanted.look_again(&self.devices);
        if come > 0 {
            self.tracer.want(&self.wanted.numbers);
        }
        for (name, why) in unsupported {
            output.emitter.status(interval.end, &name, Reason::Unsupported, why)?;
        }
        Ok(())
    }
}

impl Session {
    fn losses(&mut self, out: &mut Emitter, now: Timestamp) -> Result<()> {
        let (losses, incomplete) = self.tracer.losses();
        let Losses { slots, events, submissions, untimed, nested } = losses;
        for (source, count) in [
            ("io: more devices and operations than slots", slots),
            ("io_event: ring buffer full", events),
            ("io: map of submissions full", submissions),
            ("io: requests without any time", untimed),
            ("io: completions inside a completion", nested),
        ] {
            out.lost(now, source, count)?;
        }
        if !incomplete || self.untimed_told {
            return Ok(());
        }
        let source = "block_rq_issue";
        match self.tracer.attach_missing() {
            Ok(()) => out.status(
                now,
                source,
                Reason::Active,
                "a device's requests do not carry their times: two more hooks measure them from now on",
            ),
            Err(error) => {
                self.untimed_told = true;
                let detail = format!(
                    "a device's requests do not carry their times, and no hook can be added: {error}"
                );
                out.status(now, source, Reason::Denied, &detail)
            }
        }
    }
}
