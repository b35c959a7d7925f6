//! A tracer from its command line to its end: loads and attaches the eBPF programs, writes events as
//! they come and a report for each interval. [`Tracer`] is what differs between the programs.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel as _, Skel as _};
use libbpf_rs::{Link, OpenProgramMut, ProgramMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::CapabilitySet;

use super::args::{Attach, TracerArgs};
use super::cgroup::Cgroups;
use super::clock::{KernelClock, kernel_now};
use super::kernel::Kernel;
use super::load::{collect_warnings, explain, first, recursion_misses};
use super::map::{DoubleBuffer, Plain, Ring, load, memory};
use super::pid_watch::PidWatch;
use super::privilege;
use super::self_filter::SelfFilter;
use super::skeleton::Skeleton;
use crate::common::diag::{log, program_name};
use crate::common::emit::Emitter;
use crate::common::schedule::Ticker;
use crate::common::stop::Stop;
use crate::common::time::{Micros, Timestamp};

/// How often the ring buffer is read; more often when half of it is full.
const DRAIN_EVERY: Duration = Duration::from_millis(100);

/// The parts of a tracer that differ from the others. The functions are called in this order.
pub trait Tracer: Sized {
    /// The generated skeleton of its eBPF programs.
    type Skeleton: Skeleton;
    /// The generated struct of an event in the ring buffer.
    type Event: Plain + 'static;
    /// Its own command-line options.
    type Options;
    /// What is known before the programs are loaded.
    type Setup;

    /// The `source` of its status record.
    const SOURCE: &'static str;

    /// Checks the options, and looks at the machine as far as that needs no privileges.
    ///
    /// # Errors
    /// [`crate::common::program::Usage`] for options that make no sense; what makes tracing useless.
    fn prepare(options: Self::Options, args: &TracerArgs, emitter: &mut Emitter) -> Result<Self::Setup>;

    /// The ways to attach that this kernel may offer, the cheapest first.
    ///
    /// # Errors
    /// If the kernel lacks something that the programs need.
    fn ways(setup: &Self::Setup, kernel: &Kernel) -> Result<Vec<Attach>>;

    /// The size of the ring buffer in bytes, a power of two.
    fn ring_bytes(_setup: &Self::Setup) -> u32 {
        1 << 20
    }

    /// Whether to leave out the tracer and the readers of its output.
    fn leaves_out_self(_setup: &Self::Setup, args: &TracerArgs) -> bool {
        !args.tasks.include_self
    }

    /// Sets constants and sizes of maps after those that all tracers share, and leaves out programs that the options do not
    /// need.
    ///
    /// # Errors
    /// If the kernel lacks something that the programs need.
    fn configure(context: &Context<'_, Self>, open: &mut OpenSkeleton<Self>) -> Result<()>;

    /// The programs to attach, in this order; those that are not loaded are skipped.
    fn hooks<'a>(setup: &Self::Setup, skeleton: &'a Self::Skeleton) -> Vec<&'a ProgramMut<'static>>;

    /// Attaches the programs; by default those of [`Self::hooks`].
    ///
    /// # Errors
    /// If the kernel refuses.
    fn attach(context: &Context<'_, Self>, skeleton: &Self::Skeleton) -> Result<Vec<Link>> {
        attach_all(Self::hooks(context.setup, skeleton))
    }

    /// Maps the arrays. The programs are attached and count already.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn start(setup: Self::Setup, args: &TracerArgs, programs: &mut Programs<Self>) -> Result<Self>;

    /// Capabilities to keep if the process has them.
    fn keep(&self) -> CapabilitySet {
        CapabilitySet::empty()
    }

    /// Whether all that is still to be done works without capabilities.
    fn works(&self, _programs: &Programs<Self>) -> bool {
        true
    }

    /// Writes further status records, after the one that says the source is active.
    ///
    /// # Errors
    /// If stdout fails.
    fn started(&mut self, _output: &mut Output, _kept: CapabilitySet) -> Result<()> {
        Ok(())
    }

    /// Writes the record of an event.
    ///
    /// # Errors
    /// If stdout fails.
    fn event(&mut self, event: &Self::Event, output: &mut Output) -> Result<()>;

    /// Writes the records of all waiting events.
    ///
    /// # Errors
    /// If stdout fails.
    fn drain(&mut self, ring: &Ring<Self::Event>, output: &mut Output) -> Result<()> {
        ring.drain(|event| self.event(event, output))
    }

    /// Ends the interval, by [`Programs::end_interval`], and reads what it counted. Returns when it
    /// ended, by the kernel's clock.
    fn end_interval(&mut self, programs: &mut Programs<Self>) -> u64;

    /// Writes the records of the interval that ended last.
    ///
    /// # Errors
    /// If stdout fails.
    fn report(
        &mut self,
        programs: &mut Programs<Self>,
        output: &mut Output,
        interval: Interval,
    ) -> Result<()>;

    /// How much was lost since the start, by the source of the `lost` record.
    fn losses(&self, programs: &Programs<Self>) -> Vec<(&'static str, u64)>;

    /// After the last interval: writes the events that are still waiting.
    ///
    /// # Errors
    /// If stdout fails.
    fn end(&mut self, _programs: &mut Programs<Self>, _output: &mut Output, _now: Timestamp) -> Result<()> {
        Ok(())
    }
}

/// A skeleton before it is loaded.
pub type OpenSkeleton<T> = <<T as Tracer>::Skeleton as Skeleton>::Open;

/// One try to load and attach.
pub struct Context<'a, T: Tracer> {
    /// The result of the tracer's setup.
    pub setup: &'a T::Setup,
    /// The options that all tracers share.
    pub args: &'a TracerArgs,
    /// The kernel's type information.
    pub kernel: &'a Kernel,
    /// How to attach.
    pub attach: Attach,
    /// The number of possible CPUs.
    pub cpus: usize,
}

/// The loaded and attached eBPF programs.
pub struct Programs<T: Tracer> {
    /// All programs and maps.
    pub skeleton: T::Skeleton,
    /// How the programs are attached.
    pub attach: Attach,
    /// The number of possible CPUs.
    pub cpus: usize,
    /// Attached programs stay attached while their links live.
    pub links: Vec<Link>,
    shared: *mut <T::Skeleton as Skeleton>::Shared,
    self_filter: SelfFilter,
    double_buffer: DoubleBuffer,
    ring: Option<Ring<T::Event>>,
    began_ns: u64,
}

impl<T: Tracer> Programs<T> {
    fn load(context: &Context<'_, T>) -> Result<Self> {
        let Context { setup, args, kernel, attach, cpus } = *context;
        let leave_out_self = T::leaves_out_self(setup, args);
        let mut open = kernel.open::<<T::Skeleton as Skeleton>::Builder>()?;
        T::Skeleton::configure(&mut open, args, cpus, T::ring_bytes(setup), leave_out_self)?;
        for mut program in open.open_object_mut().progs_mut() {
            let loaded = only_by(&program).is_none_or(|way| way == attach);
            program.set_autoload(loaded);
        }
        T::configure(context, &mut open)?;
        let mut skeleton =
            open.load().map_err(|e| explain(&e, &format!("cannot load the eBPF programs ({attach})")))?;
        let shared = skeleton.shared().context("the eBPF programs have no variables")?;
        // SAFETY: the variable is in the skeleton's memory, which is never freed, and only programs read it.
        let double_buffer = unsafe { DoubleBuffer::new(T::Skeleton::active_half(shared)) };
        let self_filter = if leave_out_self {
            // SAFETY: as above.
            unsafe { SelfFilter::start(&args.tasks, &args.types, T::Skeleton::own_pids(shared)) }?
        } else {
            SelfFilter::off()
        };
        let ring = args.events.min().map(|_| Ring::open(skeleton.ring())).transpose()?;
        let began_ns = kernel_now();
        let links = T::attach(context, &skeleton)?;
        Ok(Self { skeleton, attach, cpus, links, shared, self_filter, double_buffer, ring, began_ns })
    }

    /// The programs' variables, for `shared_load!` and `shared_store!`.
    pub fn shared(&self) -> *mut <T::Skeleton as Skeleton>::Shared {
        self.shared
    }

    /// When counting began, by the kernel's clock.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// The ring buffer; `None` without events.
    pub fn ring(&self) -> Option<&Ring<T::Event>> {
        self.ring.as_ref()
    }

    /// Ends the interval and calls `at_end` at that moment: [`DoubleBuffer::switch`].
    pub fn end_interval<R>(&mut self, at_end: impl FnOnce() -> R) -> (usize, R) {
        self.double_buffer.switch(at_end)
    }

    /// Events that found the ring buffer full.
    pub fn lost_events(&self) -> u64 {
        // SAFETY: the variable is in the skeleton's memory, which is never freed.
        unsafe { load(T::Skeleton::lost_events(self.shared)) }
    }

    /// How often the kernel did not run a program because it was running on that CPU already.
    pub fn nested(&self) -> u64 {
        let loaded = self.skeleton.object().progs().filter(|program| program.autoload());
        loaded.filter_map(|program| recursion_misses(program.as_fd())).sum()
    }

    fn describe(&self) -> String {
        let bytes: usize = self.skeleton.object().maps().filter_map(|map| memory(map.as_fd())).sum();
        let hooks = self.links.len();
        format!("{hooks} hook{}; {} KiB of maps", if hooks == 1 { "" } else { "s" }, bytes / 1024)
    }
}

/// The way to attach that needs this program, by its section; `None` if every way does. Raw tracepoints that stand for
/// typed ones have names that end in `_raw`.
fn only_by(program: &OpenProgramMut<'_>) -> Option<Attach> {
    let (section, _) = program.section().to_str()?.split_once('/')?;
    match section {
        "tp_btf" => Some(Attach::TpBtf),
        "raw_tp" if program.name().as_encoded_bytes().ends_with(b"_raw") => Some(Attach::RawTp),
        "fentry" | "fexit" => Some(Attach::Fentry),
        "kprobe" | "kretprobe" => Some(Attach::Kprobe),
        _ => None,
    }
}

/// Attaches programs in this order; those that are not loaded are skipped.
///
/// # Errors
/// If the kernel refuses one.
pub fn attach_all(hooks: Vec<&ProgramMut<'static>>) -> Result<Vec<Link>> {
    let attach = |program: &ProgramMut<'static>| {
        let link = program.attach();
        link.map_err(|e| explain(&e, &format!("cannot attach {}", program.name().to_string_lossy())))
    };
    hooks.into_iter().filter(|program| program.autoload()).map(attach).collect()
}

/// The interval that a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its length in seconds.
    pub seconds: f64,
}

/// The emitter, and the state that all records need.
pub struct Output {
    /// Writes them.
    pub emitter: Emitter,
    /// Converts the kernel's time to the time of day.
    pub clock: KernelClock,
    /// Resolves cgroup ids to paths.
    pub cgroups: Cgroups,
    /// The threshold of events; `None` if each is one.
    pub threshold: Option<Micros>,
}

impl Output {
    /// For this machine, with events that take at least `min`.
    pub fn new(emitter: Emitter, min: Option<Duration>) -> Self {
        let nanos = super::args::nanos(min);
        let threshold = (nanos > 0).then_some(Micros(nanos));
        Self { emitter, clock: KernelClock::measure(), cgroups: Cgroups::new(Path::new("/")), threshold }
    }
}

/// Runs a tracer until the options, a signal, or the end of all processes of `--pid` end it.
///
/// # Errors
/// If the kernel refuses, with what to do about it; if stdout fails.
pub fn run<T: Tracer>(args: &TracerArgs, options: T::Options) -> Result<()> {
    args.common.refuse_foreign("events are traced")?;
    let mut emitter = args.common.emitter()?;
    let setup = T::prepare(options, args, &mut emitter)?;
    let pids = PidWatch::find(&args.tasks)?;
    privilege::check(program_name())?;
    collect_warnings();
    let kernel = &Kernel::read(&args.types)?;
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")?;
    let mut programs = first(T::ways(&setup, kernel)?, args.attach, |attach| {
        Programs::<T>::load(&Context { setup: &setup, args, kernel, attach, cpus })
    })?;
    let mut tracer = T::start(setup, args, &mut programs)?;
    let kept =
        privilege::drop_but(tracer.keep(), || tracer.works(&programs) && programs.self_filter.works())?;
    let (attach, detail) = (programs.attach, programs.describe());
    if args.common.verbose {
        log(format_args!(
            "{} by {attach}, {detail}; capabilities kept: {}",
            T::SOURCE,
            privilege::names(kept)
        ));
    }
    let mut output = Output::new(emitter, args.events.min());
    output.emitter.active(Timestamp::now(), T::SOURCE, attach.name(), &detail)?;
    tracer.started(&mut output, kept)?;
    Session { args, tracer, programs, output, lost: HashMap::new() }.run(pids)
}

struct Session<'a, T: Tracer> {
    args: &'a TracerArgs,
    tracer: T,
    programs: Programs<T>,
    output: Output,
    /// The losses reported so far, by source.
    lost: HashMap<&'static str, u64>,
}

impl<T: Tracer> Session<'_, T> {
    fn run(mut self, mut pids: PidWatch) -> Result<()> {
        let common = &self.args.common;
        let stop = common.stop()?;
        // After the stop is installed: a reader of the status record may send a signal at once.
        self.output.emitter.flush()?;
        let mut ticker = Ticker::trailing(common.schedule(Duration::from_secs(1)));
        let mut began_ns = self.programs.began_ns;
        let mut start = self.output.clock.wall(began_ns);
        while let Some(deadline) = ticker.deadline() {
            while !stop.asked() && !pids.ended() && Instant::now() < deadline {
                self.wait(&stop, &pids, deadline)?;
                self.programs.self_filter.look_if_due();
                self.drain()?;
                self.output.emitter.flush()?;
            }
            if stop.reader_gone() {
                break;
            }
            // Decided before the report: a stop that is asked for meanwhile ends the next interval.
            let ended = pids.ended();
            let last = stop.asked() || ended;
            ticker.tick();
            let end_ns = self.tracer.end_interval(&mut self.programs);
            self.drain()?;
            self.output.clock = KernelClock::measure();
            let end = self.output.clock.wall(end_ns);
            let seconds = end_ns.saturating_sub(began_ns) as f64 / 1e9;
            self.report(Interval { start, end, seconds: (seconds * 1e6).round() / 1e6 })?;
            (start, began_ns) = (end, end_ns);
            if last {
                if ended {
                    log(format_args!("--pid: all processes have ended"));
                }
                break;
            }
        }
        if !stop.reader_gone() {
            self.tracer.end(&mut self.programs, &mut self.output, start)?;
            self.losses(start)?;
        }
        self.output.emitter.finish(common.verbose)
    }

    fn drain(&mut self) -> Result<()> {
        let Self { tracer, programs, output, .. } = self;
        programs.ring.as_ref().map_or(Ok(()), |ring| tracer.drain(ring, output))
    }

    fn report(&mut self, interval: Interval) -> Result<()> {
        self.tracer.report(&mut self.programs, &mut self.output, interval)?;
        self.losses(interval.end)?;
        self.output.emitter.flush()
    }

    fn losses(&mut self, now: Timestamp) -> Result<()> {
        for (source, total) in self.tracer.losses(&self.programs) {
            let reported = self.lost.entry(source).or_default();
            self.output.emitter.lost(now, source, total.saturating_sub(*reported))?;
            *reported = total.max(*reported);
        }
        Ok(())
    }

    /// Sleeps until `deadline`, a stop, the end of a process, or until events may be waiting.
    fn wait(&self, stop: &Stop, pids: &PidWatch, deadline: Instant) -> Result<()> {
        let until = self.programs.self_filter.due().map_or(deadline, |due| due.min(deadline));
        let mut left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![poll_fd(stop.fd())];
        if let Some(ring) = &self.programs.ring {
            left = left.min(DRAIN_EVERY);
            fds.push(poll_fd(ring.fd()));
        }
        fds.extend(pids.fds().map(poll_fd));
        let timeout = Timespec::try_from(left).context("the interval is too long to wait for")?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for events"),
        }
    }
}

fn poll_fd(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}
