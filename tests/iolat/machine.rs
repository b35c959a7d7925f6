//! Test equipment: loop devices, fio, and oracles that we did not write: /proc/diskstats and the kernel's event log
//! (tracefs).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::counters::{Tracefs, threads_of_init};
pub use crate::support::tracer::ready;

/// Runs a command that must succeed, and returns its output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A temporary folder in the build folder, which is on a disk (/tmp may be a tmpfs).
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A loop device over a temporary file, detached when dropped.
pub struct LoopDisk {
    /// `loop3`.
    pub name: String,
    pub file: PathBuf,
    _folder: TempDir,
}

impl LoopDisk {
    pub const BYTES: usize = 32 << 20;

    pub fn new() -> Self {
        let folder = folder();
        let file = folder.path().join("disk");
        fs::write(&file, vec![0x5a; Self::BYTES]).unwrap();
        rustix::fs::sync();
        let found =
            run("losetup", &["--find", "--show", "--partscan", "--direct-io=on", file.to_str().unwrap()]);
        let name = found.trim().strip_prefix("/dev/").unwrap().to_owned();
        Self { name, file, _folder: folder }
    }

    pub fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// Sets an attribute of the queue in sysfs.
    pub fn set_queue(&self, file: &str, value: &str) {
        fs::write(format!("/sys/block/{}/queue/{file}", self.name), value).unwrap();
    }

    pub fn detach(&self) {
        run("losetup", &["--detach", &self.path()]);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        for (file, value) in [("iostats", "1"), ("wbt_lat_usec", "-1")] {
            let _ = fs::write(format!("/sys/block/{}/queue/{file}", self.name), value);
        }
        let _ = Command::new("losetup").args(["--detach", &self.path()]).output();
    }
}

/// A kernel module that makes a disk, unloaded when dropped.
pub struct Module(&'static str);

impl Module {
    /// `None`, and the reason on stderr, if this kernel does not have it.
    pub fn load(name: &'static str, parameters: &[&str]) -> Option<Self> {
        let loaded = Command::new("modprobe").arg(name).args(parameters).output();
        if loaded.is_ok_and(|output| output.status.success()) {
            return Some(Self(name));
        }
        crate::support::skip(&format!("the module {name} cannot be loaded"));
        None
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = Command::new("modprobe").args(["-r", self.0]).output();
    }
}

/// The counts of a device in /proc/diskstats: requests and bytes, read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diskstats {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

impl Diskstats {
    pub fn read(device: &str) -> Self {
        let text = fs::read_to_string("/proc/diskstats").unwrap();
        let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let fields = line.into_iter().find(|fields| fields[2] == device).unwrap();
        let field = |i: usize| fields[i].parse::<u64>().unwrap();
        Self { reads: field(3), read_bytes: field(5) * 512, writes: field(7), written_bytes: field(9) * 512 }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            writes: self.writes - before.writes,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// A percentile in nanoseconds: `completion` is from the end of the submission, `whole` from its start.
#[derive(Clone, Copy, Debug)]
pub struct Percentile {
    pub completion: f64,
    pub whole: f64,
}

/// The results of fio for reads or writes; times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub requests: u64,
    pub bytes: u64,
    pub p50: Percentile,
    pub p99: Percentile,
    pub longest: f64,
}

/// Runs one fio job at a real-time priority, so that it measures I/O and not the wait for a busy CPU.
pub fn fio(target: &str, args: &[&str]) -> Value {
    let own = [
        "--name=job",
        "--direct=1",
        "--output-format=json",
        "--percentile_list=50:99",
        "--clat_percentiles=1",
        "--lat_percentiles=1",
        "--randrepeat=1",
    ];
    let fio: Vec<_> = ["fio"].iter().chain(&own).chain(args).map(|arg| (*arg).to_owned()).collect();
    let mut command = Command::new("chrt");
    command.args(["-f", "50"]).args(fio).arg(format!("--filename={target}"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "fio {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let from = text.find('{').unwrap();
    serde_json::from_str::<Value>(&text[from..]).unwrap()["jobs"][0].take()
}

/// One side (`read` or `write`) of the results of fio.
pub fn measured(job: &Value, side: &str) -> Measured {
    let side = &job[side];
    let of = |time: &str, name: &str| side[time]["percentile"][name].as_f64().unwrap_or(0.0);
    let percentile = |name| Percentile { completion: of("clat_ns", name), whole: of("lat_ns", name) };
    Measured {
        requests: side["total_ios"].as_u64().unwrap(),
        bytes: side["io_bytes"].as_u64().unwrap(),
        p50: percentile("50.000000"),
        p99: percentile("99.000000"),
        longest: side["lat_ns"]["max"].as_f64().unwrap(),
    }
}

/// The kernel's event log (tracefs) of one block device.
pub struct EventLog {
    instance: PathBuf,
    _tracefs: Tracefs,
}

/// Events in the log.
#[derive(Debug, Default)]
pub struct Logged {
    /// Requests with data that were issued to the driver.
    pub issued: u64,
    pub flushes_issued: u64,
    /// Requests that the driver returned, to be issued again.
    pub requeued: u64,
    /// Completions of requests with data and of flushes.
    pub completed: u64,
    /// Other completions: phases of a flush sequence.
    pub phases: u64,
    /// The part of `completed` that interrupted process 1. Some sandboxes run no eBPF programs in their init, so that
    /// tracers do not see these.
    pub in_init: u64,
    /// The nanoseconds from issue to completion of each request with data.
    pub device: Vec<f64>,
}

impl EventLog {
    pub fn start(device: &str) -> Self {
        let tracefs = Tracefs::new();
        let instance = tracefs.root.join(format!("instances/telepipe-{}", std::process::id()));
        fs::create_dir(&instance).unwrap();
        let log = Self { instance, _tracefs: tracefs };
        log.write("buffer_size_kb", "8192");
        let dev = device_number(device);
        for event in ["block_rq_issue", "block_rq_requeue", "block_rq_complete"] {
            log.write(&format!("events/block/{event}/filter"), &format!("dev == {dev}"));
            log.write(&format!("events/block/{event}/enable"), "1");
        }
        log
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.instance.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Stops the log and counts its events.
    pub fn finish(self) -> Logged {
        self.write("events/enable", "0");
        let text = fs::read(self.instance.join("trace")).unwrap();
        let text = String::from_utf8_lossy(&text);
        let header = text.lines().find(|line| line.contains("entries-in-buffer")).unwrap();
        let numbers = header.split([':', ' ', '/']).filter_map(|word| word.parse::<u64>().ok());
        let numbers: Vec<_> = numbers.collect();
        assert_eq!(numbers[0], numbers[1], "the log lost events: {header}");
        let init: HashSet<_> = threads_of_init().into_iter().collect();
        let mut logged = Logged::default();
        let mut issued = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            logged.count(line, &init, &mut issued);
        }
        logged
    }
}

impl Logged {
    /// Counts a line such as
    /// `  fio-12169   [001] ..s..  8053.383282: block_rq_complete: 7,3 RS () 7904 + 8 be,0,4 [0]`
    ///
    /// `issued`: when the request at a sector was issued, in seconds.
    fn count(&mut self, line: &str, init: &HashSet<String>, issued: &mut HashMap<String, f64>) {
        let Some((head, event)) = line.split_once(": block_rq_") else { return };
        let (event, rest) = event.split_once(": ").unwrap();
        let flags = rest.split(' ').nth(1).unwrap();
        let (before, after) = rest.rsplit_once(" + ").unwrap();
        let sector = before.rsplit(' ').next().unwrap().to_owned();
        let sectors: u64 = after.split(' ').next().unwrap().parse().unwrap();
        let seconds: f64 = head.rsplit(' ').next().unwrap().parse().unwrap();
        let flush = flags.starts_with("FF");
        match event {
            "issue" if flush => self.flushes_issued += 1,
            "issue" => {
                self.issued += 1;
                issued.insert(sector, seconds);
            }
            "requeue" => self.requeued += 1,
            "complete" if flush || sectors > 0 => {
                self.completed += 1;
                self.device.extend(issued.remove(&sector).map(|issued| ((seconds - issued) * 1e9).round()));
                let task = head.split(" [").next().unwrap().trim();
                self.in_init += u64::from(init.contains(task.rsplit('-').next().unwrap()));
            }
            "complete" => self.phases += 1,
            _ => {}
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
    }
}

/// The number of a device in the kernel's encoding: the minor number in the low 20 bits.
pub fn device_number(device: &str) -> u32 {
    let numbers = fs::read_to_string(format!("/sys/class/block/{device}/dev")).unwrap();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    major.parse::<u32>().unwrap() << 20 | minor.parse::<u32>().unwrap()
}

/// The disk that a path is on; `None` if it is not on one, or on one without block requests.
pub fn disk_below(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let dev = fs::metadata(path).ok()?.dev();
    let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let mut real = fs::canonicalize(link).ok()?;
    if real.join("partition").exists() {
        real.pop();
    }
    real.join("mq").exists().then(|| real.file_name().unwrap().to_string_lossy().into_owned())
}
