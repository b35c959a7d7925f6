//! `pmstat`: power, energy, frequency, residency and temperature of CPUs and GPUs, and batteries.
//!
//! Reads perf, /sys and NVML on Linux, runs `powermetrics` on macOS, and on any system reads recorded output of
//! `powermetrics`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

#[cfg(not(target_os = "macos"))]
use telepipe::bail_usage;
use telepipe::collect::powermetrics::recording::Recording;
use telepipe::common::emit::Emitter;
use telepipe::common::input::Input;
use telepipe::common::options::Common;
use telepipe::common::program::Program;
use telepipe::common::stop::Stop;
use telepipe::record::{
    BATTERY, CPU_POWER, FAN, GPU, Kind, LOST, POWER, PROCESS_POWER, STATUS, TASK, TEMPERATURE,
    THERMAL_PRESSURE, VOLTAGE,
};

/// Print power, frequency, residency and temperature of CPUs and GPUs as JSON lines
#[derive(clap::Parser)]
#[command(name = "pmstat")]
struct Pmstat {
    #[command(flatten)]
    common: Common,

    /// Read recorded output of powermetrics, text or plist, from FILE, or from stdin if FILE is -
    #[arg(long, help_heading = "Input", value_name = "FILE", conflicts_with = "duration")]
    input: Option<PathBuf>,

    /// Print a record for each task in the output of powermetrics
    #[arg(long, help_heading = "Output")]
    tasks: bool,

    /// Set the samplers of powermetrics, such as cpu_power,gpu_power,smc (macOS) [default: processors, thermal, battery,
    /// and smc on Intel]
    #[arg(long, help_heading = "Input", value_name = "LIST", conflicts_with = "input")]
    samplers: Option<String>,

    /// Split the packages' energy among processes in proportion to CPU time (Linux)
    #[arg(long, help_heading = "Output", conflicts_with_all = ["input", "tasks"])]
    per_process: bool,

    /// Set the path of NVIDIA's management library [default: libnvidia-ml.so.1 of this machine]
    #[arg(long, help_heading = "Input", value_name = "FILE", conflicts_with = "input")]
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
            "Power of a Mac, over ssh",
            "ssh mac sudo powermetrics -f plist | pmstat --input - --host mac -f 'select(.counted)'",
        ),
        ("Power of this machine, every second", "sudo pmstat -f 'select(.kind == \"power\" and .counted)'"),
        ("Energy by process", "sudo pmstat --once -i 1s --per-process"),
        (
            "Activity of each CPU in a recording",
            "pmstat --input powermetrics.txt --host mac -f 'select(.component == \"cpu\")'",
        ),
    ];
    const NOTES: &'static str = include_str!("pmstat.md");

    fn run(self) -> Result<()> {
        let stop = self.common.stop()?;
        match &self.input {
            Some(path) => {
                let input = Input::open(path, &stop)?;
                let mut out = self.common.emitter_of_recording()?;
                let understood = self.recorded(input, &mut out)?;
                out.finish(self.common.verbose)?;
                anyhow::ensure!(understood, "{}: not the output of powermetrics", path.display());
                Ok(())
            }
            None => self.live(&stop),
        }
    }
}

impl Pmstat {
    /// Writes the records of an input; false if none of it was understood.
    fn recorded(&self, input: Input, out: &mut Emitter) -> Result<bool> {
        Recording::new(self.tasks, self.common.verbose, self.wanted()).write(input, out)
    }

    /// Runs one `powermetrics` until the end.
    #[cfg(target_os = "macos")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use anyhow::Context as _;
        use std::process::{Command, Stdio};
        use telepipe::common::time::Timestamp;
        use telepipe::record::Reason;

        let mut out = self.common.emitter()?;
        let interval = self.common.interval.unwrap_or(INTERVAL).as_millis().max(1).to_string();
        let samplers = self.samplers.clone().unwrap_or_else(|| {
            let chosen = if self.tasks { "default,thermal" } else { "cpu_power,gpu_power,thermal,battery" };
            // Temperatures and fans; powermetrics on Apple Silicon does not know this sampler and would fail.
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
        let stdout = child.stdout.take().context("cannot read the output of powermetrics")?;
        let result = self.recorded(Input::new(stdout.into(), stop), &mut out);
        // It may have ended already.
        let _ = child.kill();
        let ended = child.wait()?;
        if !ended.success() && ended.code().is_some() {
            let detail = format!("powermetrics ended with {ended}; run as root");
            out.status(Timestamp::now(), "powermetrics", Reason::Denied, &detail)?;
        }
        result?;
        out.finish(self.common.verbose)
    }

    /// Reads every source at every tick.
    #[cfg(target_os = "linux")]
    fn live(&self, stop: &Stop) -> Result<()> {
        use telepipe::collect::power::{PowerSettings, collectors};
        use telepipe::collect::{Roots, sampler};
        use telepipe::common::program::Usage;

        if self.tasks {
            bail_usage!("--tasks needs powermetrics of macOS; use --per-process on Linux");
        }
        if self.samplers.is_some() {
            bail_usage!("--samplers needs powermetrics of macOS");
        }
        let roots = Roots::new(&self.common.proc_root, &self.common.sys_root).map_err(Usage)?;
        let settings = PowerSettings { per_process: self.per_process, nvml: self.nvml.clone(), roots };
        let mut sources = collectors(&settings);
        sampler::run(&self.common, &settings.roots, &mut sources, &|_| true, self.common.emitter()?, stop)
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn live(&self, _: &Stop) -> Result<()> {
        bail_usage!("this system is not supported; use --input with recorded output of powermetrics")
    }

    fn wanted(&self) -> Option<u64> {
        let timed = self.common.duration.map(|all| {
            let interval = self.common.interval.unwrap_or(INTERVAL);
            u64::try_from(all.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX).max(1)
        });
        if self.common.once { Some(1) } else { self.common.count.or(timed) }
    }
}

/// The default interval.
const INTERVAL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    telepipe::common::entry::main::<Pmstat>()
}
