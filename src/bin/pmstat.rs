//! `pmstat`: power, energy, frequency, residency, temperature of processors, and batteries.
//!
//! Runs one `powermetrics` on macOS, and anywhere reads what it printed; on Linux reads perf, /sys and NVML.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use telepipe::collect::powermetrics::recording::Recording;
use telepipe::common::emit::Emitter;
use telepipe::common::input::Input;
use telepipe::common::options::Common;
use telepipe::common::program::Generate;
use telepipe::common::program::Program;
use telepipe::common::stop::Stop;
use telepipe::common::time::Timestamp;
use telepipe::record::{
    BATTERY, CPU_POWER, FAN, GPU, Kind, LOST, POWER, PROCESS_POWER, STATUS, TASK, TEMPERATURE,
    THERMAL_PRESSURE, VOLTAGE,
};

const CAVEATS: &str = "Sum up the power records whose counted is true, and nothing is counted twice.\n\n\
    What powermetrics says of network, disks and interrupts is understood and left out: scrape measures it. Its \
    summary at the end is left out where the samples were told one by one. It tells the end of a sample to the \
    second; later samples have the first one's time and the sum of the lengths since, and what has no time of its own, \
    as a part of a recording, that at which it was read. Numbers that cannot be are counted as lost, and not told.\n\n\
    Text gives power in whole milliwatts, so energy is that exact at best; property lists are finer.\n\n\
    Linux: energy of processors is read from the power PMU of perf, which needs CAP_PERFMON or a \
    kernel.perf_event_paranoid below 1; else from powercap, whose counters only root can read; else from hwmon. \
    A counter of powercap wraps, after a quarter of an hour on a large server; with an interval longer than that, \
    wraps are missed, and those before the program began are not known. Where the machine was suspended, \
    suspended_s says for how long, energy_joules goes on, and power_watts is left out. psys is the whole machine \
    where the board has connected it; dram is not a part of its package, although it is listed in it. Dies whose \
    counters agree to half a joule are taken for one until they differ, once both have counted five. On AMD, core is the first \
    core of its package alone.\n\n\
    A graphics processor that sleeps is not asked anything. Each question keeps one awake for a while that may \
    sleep: one that idles is therefore asked only every 15 seconds or so (three times its autosuspend delay), and \
    in between only its runtime_status is told. On other drivers than amdgpu, i915, xe and nvidia only sensors \
    are read. NVML is loaded while the program runs (libnvidia-ml.so.1, or --nvml), only where there is a device \
    of that driver, and never for another --sys-root unless --nvml names it.\n\n\
    Residencies of Linux by frequency include idle time and sum to 1. Idle times are counted when a CPU wakes, so a \
    CPU that sleeps for longer than the interval seems awake meanwhile.\n\n\
    --per-process splits by CPU time, although a second of one program can take several times the energy of \
    another's: good for what changes, not for what it costs. It counts clock ticks, of 10 ms.\n\n\
    The records of a text sample appear when the next one begins, or at the end.";

const OVERHEAD: &str = "Linux: a sample opens, reads and closes a few small files for each CPU, zone and sensor, so that no device \
    is held open: 0.4 ms of CPU time on a virtual machine that has only idle states, 2.6 ms for 19 sensors, a battery \
    and four CPUs; --per-process opens a file of every process.\n\n\
    Recordings: a second of CPU time reads 270 to 350 MB of property lists, and 94 to 117 MB of text, which says the same \
    in fewer bytes (two virtual CPUs of an AMD EPYC, Linux 6.18, with little else to do).\n\n\
    macOS: reading costs next to nothing; powermetrics itself takes up to a quarter of a core while it \
    samples tasks, which is why one process is kept, and tasks are sampled only with --tasks.";

/// Power, frequency, residency and temperature of processors, as JSON lines
#[derive(clap::Parser)]
#[command(name = "pmstat")]
struct Pmstat {
    #[command(flatten)]
    common: Common,

    /// Read what powermetrics printed, text or plist, from this file, or from stdin if it is -; of which host it is, --host says
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    input: Option<PathBuf>,

    /// A record for each task that powermetrics tells of
    #[arg(long)]
    tasks: bool,

    /// What powermetrics is to sample, such as cpu_power,gpu_power,smc (macOS) [default: processors, thermal, battery;
    /// smc too on Intel]
    #[arg(long, value_name = "LIST", conflicts_with = "input")]
    samplers: Option<String>,

    /// Split the packages' energy by process, in proportion to CPU time (Linux)
    #[arg(long, conflicts_with_all = ["input", "tasks"])]
    per_process: bool,

    /// NVIDIA's management library [default: libnvidia-ml.so.1 of this machine]
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    nvml: Option<PathBuf>,
}

impl Program for Pmstat {
    const KINDS: &'static [&'static Kind] = &[
        &POWER,
        &CPU_POWER,
        &GPU,
        &TEMPERATURE,
        &FAN,
        &VOLTAGE,
        &THERMAL_PRESSURE,
        &BATTERY,
        &TASK,
        &PROCESS_POWER,
        &STATUS,
        &LOST,
    ];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "What a Mac uses",
            "ssh mac sudo powermetrics -f plist | pmstat --input - --host mac -f 'select(.counted)'",
        ),
        ("Power of this machine, every second", "sudo pmstat -f 'select(.kind == \"power\" and .counted)'"),
        ("Which process uses how much", "sudo pmstat --once -i 1s --per-process"),
        (
            "How busy each CPU of a recording was",
            "pmstat --input powermetrics.txt --host mac -f 'select(.component == \"cpu\")'",
        ),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    fn generate(&self) -> Option<Generate> {
        self.common.generate.what
    }

    fn run(self) -> Result<()> {
        let stop = self.common.stop()?;
        match &self.input {
            Some(path) => {
                let input = Input::open(path, &stop)?;
                let mut out = self.common.emitter_of_recording()?;
                self.recorded(input, &mut out)?;
                out.finish(self.common.verbose)
            }
            None => self.live(&stop),
        }
    }
}

impl Pmstat {
    /// Everything that an input holds.
    fn recorded(&self, input: Input, out: &mut Emitter) -> Result<()> {
        Recording::new(self.tasks, self.common.verbose, self.wanted()).tell(input, out)
    }

    /// One `powermetrics` for as long as we run.
    #[cfg(target_os = "macos")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use anyhow::Context as _;
        use std::process::{Command, Stdio};
        use telepipe::record::Reason;

        let mut out = self.common.emitter()?;
        let interval = self.common.interval.unwrap_or(INTERVAL).as_millis().max(1).to_string();
        let samplers = self.samplers.clone().unwrap_or_else(|| {
            let chosen = if self.tasks { "default,thermal" } else { "cpu_power,gpu_power,thermal,battery" };
            // Temperatures and fans of Intel; powermetrics of Apple's processors does not know it, and would end.
            let sensors = if cfg!(target_arch = "x86_64") { ",smc" } else { "" };
            format!("{chosen}{sensors}")
        });
        let mut command = Command::new("powermetrics");
        command.args(["-f", "plist", "-b", "0", "-i", &interval, "-s", &samplers]);
        if self.tasks {
            command.arg("--show-process-energy");
        }
        if let Some(count) = self.wanted() {
            command.args(["-n", &count.to_string()]);
        }
        let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                out.status(Timestamp::now(), "powermetrics", Reason::Absent, &error.to_string())?;
                return out.finish(self.common.verbose);
            }
        };
        let stdout = child.stdout.take().context("no output of powermetrics")?;
        let result = self.recorded(Input::new(stdout.into(), stop), &mut out);
        // It may have ended by itself.
        let _ = child.kill();
        let ended = child.wait()?;
        if !ended.success() && ended.code().is_some() {
            let detail = format!("powermetrics ended with {ended}; it has to be run as root");
            out.status(Timestamp::now(), "powermetrics", Reason::Denied, &detail)?;
        }
        result?;
        out.finish(self.common.verbose)
    }

    /// Asks every source at every tick.
    #[cfg(target_os = "linux")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use telepipe::collect::power::{PowerSettings, collectors};
        use telepipe::collect::{Roots, Sample, boot_time};
        use telepipe::common::diag::log;
        use telepipe::common::schedule::Ticker;

        if self.tasks {
            return Err(telepipe::common::program::Usage(
                "--tasks: powermetrics of macOS tells of them; here, --per-process".into(),
            )
            .into());
        }
        if self.samplers.is_some() {
            return Err(telepipe::common::program::Usage(
                "--samplers: those of powermetrics of macOS".into(),
            )
            .into());
        }
        let Common { proc_root, sys_root, verbose, .. } = &self.common;
        let roots = Roots::new(proc_root, sys_root).map_err(telepipe::common::program::Usage)?;
        let settings = PowerSettings { per_process: self.per_process, nvml: self.nvml.clone(), roots };
        let mut sources = collectors(&settings);
        let mut out = self.common.emitter()?;
        let boot = boot_time(&settings.roots);
        let mut sampled = None;
        let mut ticker = Ticker::immediate(self.common.schedule(INTERVAL));
        while let Some(tick) = ticker.next(stop) {
            let now = std::time::Instant::now();
            let interval = sampled.replace(now).map(|before| now - before);
            let (ts, inventory) = (Timestamp::now(), tick.index == 0);
            let sample = Sample { ts, boot, interval, write: tick.write, inventory, wanted: &|_| true };
            for source in &mut sources {
                source.collect(&sample, &mut out)?;
            }
            out.flush()?;
            if *verbose && inventory {
                sources.iter().for_each(|source| log(format_args!("reads {}", source.method())));
            }
        }
        out.finish(*verbose)
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn live(&self, _: &Stop) -> Result<()> {
        let message = "this system cannot be measured; --input reads what powermetrics printed";
        Err(telepipe::common::program::Usage(message.into()).into())
    }

    fn wanted(&self) -> Option<u64> {
        let timed = self.common.duration.map(|all| {
            let interval = self.common.interval.unwrap_or(INTERVAL);
            u64::try_from(all.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX).max(1)
        });
        if self.common.once { Some(1) } else { self.common.count.or(timed) }
    }
}

/// How often to sample, if nobody says.
const INTERVAL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    telepipe::common::entry::main::<Pmstat>()
}
