//! Reads uname, os-release, DMI, /proc/cpuinfo and the CPU topology into `host` records.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::collect::text::{lines, number, text};
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{HOST, Host, Kind};

/// Reads facts that hardly ever change, once an hour.
pub struct HostCollector(Roots);

impl HostCollector {
    /// Reads below `roots`.
    pub fn new(roots: &Roots) -> Self {
        Self(roots.clone())
    }
}

impl Collector for HostCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&HOST]
    }

    fn method(&self) -> String {
        let Roots { proc, sys, .. } = &self.0;
        format!(
            "uname, {}, and DMI, topology and cpufreq of {}",
            proc.join("cpuinfo").display(),
            sys.display()
        )
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.inventory || !sample.wants(&HOST) {
            return Ok(());
        }
        let Self(Roots { proc, sys, foreign }) = self;
        let mut host = if *foreign { recorded_names(proc) } else { names_of_this_machine() };
        host.boot_ts = sample.boot;
        let dmi = |name| line(sys.join("class/dmi/id").join(name)).filter(|text| !is_placeholder(text));
        host.vendor = dmi("sys_vendor");
        host.model = dmi("product_name")
            .or_else(|| line(sys.join("firmware/devicetree/base/model")))
            .or_else(|| line(proc.join("device-tree/model")));
        let cpuinfo_path = proc.join("cpuinfo");
        let content = fs::read(&cpuinfo_path);
        let info = cpuinfo(content.as_deref().unwrap_or_default());
        host.processor = info.processor;
        let cpus = topology(&sys.join("devices/system/cpu"));
        host.logical_cpus = count(cpus.online).or(count(info.logical));
        host.physical_cores = count(cpus.cores.len()).or(count(info.cores.len()));
        (host.frequency_min_hz, host.frequency_max_hz) = (cpus.min_hz, cpus.max_hz);
        out.emit(sample.ts, &host)?;
        if let Err(error) = content {
            unreadable(out, sample.ts, &cpuinfo_path.to_string_lossy(), &error)?;
        }
        report_absent(sys, &host, sample, out)
    }
}

/// Reports missing sources: many virtual machines and all containers lack some.
fn report_absent(sys: &Path, host: &Host, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let mut report = |folder: &str, what: &str| {
        let error = io::Error::new(io::ErrorKind::NotFound, what);
        unreadable(out, sample.ts, &sys.join(folder).to_string_lossy(), &error)
    };
    if host.vendor.is_none() && host.model.is_none() {
        report("class/dmi/id", "no vendor and model, and no device tree either")?;
    }
    if host.frequency_min_hz.is_none() && host.frequency_max_hz.is_none() {
        report("devices/system/cpu/cpu0/cpufreq", "no CPU frequencies")?;
    }
    Ok(())
}

/// Whether a DMI string is one that firmware ships with when the maker filled in nothing.
fn is_placeholder(text: &str) -> bool {
    const PLACEHOLDERS: [&str; 10] = [
        "to be filled by o.e.m.",
        "to be filled by oem",
        "default string",
        "not specified",
        "not applicable",
        "not available",
        "system manufacturer",
        "system product name",
        "o.e.m.",
        "unknown",
    ];
    PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str())
}

/// The content of a one-line file.
fn line(path: impl AsRef<Path>) -> Option<String> {
    text(&fs::read(path).ok()?)
}

fn count(count: usize) -> Option<u32> {
    u32::try_from(count).ok().filter(|&count| count > 0)
}

/// The facts of uname(2), from /proc; it has no distribution and no time zone.
fn recorded_names(proc: &Path) -> Host {
    let kernel = |name| line(proc.join("sys/kernel").join(name));
    Host {
        hostname: kernel("hostname"),
        os: kernel("ostype"),
        release: kernel("osrelease"),
        version: kernel("version"),
        architecture: kernel("arch"),
        ..Host::default()
    }
}

fn names_of_this_machine() -> Host {
    let uname = rustix::system::uname();
    let word = |word: &std::ffi::CStr| text(word.to_bytes());
    let release =
        fs::read("/etc/os-release").or_else(|_| fs::read("/usr/lib/os-release")).unwrap_or_default();
    let now = jiff::Zoned::now();
    Host {
        hostname: word(uname.nodename()),
        os: word(uname.sysname()),
        release: word(uname.release()),
        version: word(uname.version()),
        architecture: word(uname.machine()),
        distribution: os_release(&release, b"PRETTY_NAME"),
        distribution_id: os_release(&release, b"ID"),
        distribution_version: os_release(&release, b"VERSION_ID"),
        time_zone: now.time_zone().iana_name().map(str::to_owned),
        utc_offset_s: Some(now.offset().seconds()),
        ..Host::default()
    }
}

/// The value of `key=value`, `key="value"` or `key='value'` (os-release(5)) without shell escapes.
fn os_release(bytes: &[u8], key: &[u8]) -> Option<String> {
    let value = lines(bytes).find_map(|line| line.strip_prefix(key)?.strip_prefix(b"="))?.trim_ascii();
    let inner = match value {
        [quote @ (b'"' | b'\''), inner @ .., end] if quote == end => inner,
        _ => value,
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    text(&plain)
}

/// The facts of /proc/cpuinfo. Its format differs by architecture.
#[derive(Debug, Default, PartialEq)]
struct CpuInfo {
    processor: Option<String>,
    logical: usize,
    /// Pairs of package and core ids.
    cores: HashSet<(u64, u64)>,
}

fn cpuinfo(bytes: &[u8]) -> CpuInfo {
    let mut info = CpuInfo::default();
    let mut package = 0;
    for line in lines(bytes) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        match key {
            b"processor" if number(value).is_some() => info.logical += 1,
            // x86 and some others; POWER; MIPS.
            b"model name" | b"cpu" | b"cpu model" if info.processor.is_none() => info.processor = text(value),
            b"physical id" => package = number(value).unwrap_or(0),
            b"core id" => info.cores.extend(number(value).map(|core| (package, core))),
            _ => {}
        }
    }
    info
}

/// The facts of /sys/devices/system/cpu (kernel `Documentation/ABI/testing/sysfs-devices-system-cpu`).
#[derive(Default)]
struct Topology {
    online: usize,
    /// The list of CPUs of each core, as the kernel prints it.
    cores: HashSet<String>,
    min_hz: Option<u64>,
    max_hz: Option<u64>,
}

fn topology(folder: &Path) -> Topology {
    let mut found = Topology::default();
    for cpu in cpu_folders(folder) {
        // A CPU has a topology only while it is online.
        let list = |name| line(cpu.join("topology").join(name));
        if let Some(core) = list("core_cpus_list").or_else(|| list("thread_siblings_list")) {
            found.online += 1;
            found.cores.insert(core);
        }
        let khz = |name| {
            let khz = number(line(cpu.join("cpufreq").join(name))?.as_bytes())?;
            // Drivers that do not know a limit leave 0 or -1 in an unsigned int.
            (khz > 0 && khz < u64::from(u32::MAX)).then(|| khz * 1000)
        };
        found.min_hz = [found.min_hz, khz("cpuinfo_min_freq")].into_iter().flatten().min();
        found.max_hz = [found.max_hz, khz("cpuinfo_max_freq")].into_iter().flatten().max();
    }
    found
}

fn cpu_folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        number(name.as_encoded_bytes().strip_prefix(b"cpu")?)?;
        Some(entry.path())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_with_every_quoting() {
        let text = b"NAME=\"A \\\"B\\\"\"\nID=arch\nVERSION_ID='12'\nPRETTY_NAME=\"\"\nVARIANT_ID=x\n";
        assert_eq!(os_release(text, b"NAME").as_deref(), Some("A \"B\""));
        assert_eq!(os_release(text, b"ID").as_deref(), Some("arch"));
        assert_eq!(os_release(text, b"VERSION_ID").as_deref(), Some("12"));
        assert_eq!((os_release(text, b"PRETTY_NAME"), os_release(text, b"BUILD_ID")), (None, None));
        assert_eq!(os_release(b"ID=\"\nID=", b"ID").as_deref(), Some("\""));
    }

    #[test]
    fn cpuinfo_of_several_architectures() {
        let x86 = b"processor\t: 0\nmodel name\t: Some CPU\nphysical id\t: 0\ncore id\t: 0\n\n\
            processor\t: 1\nmodel name\t: Some CPU\nphysical id\t: 0\ncore id\t: 0\n\n\
            processor\t: 2\nmodel name\t: Some CPU\nphysical id\t: 1\ncore id\t: 0\n\n";
        let info = cpuinfo(x86);
        assert_eq!((info.processor.as_deref(), info.logical, info.cores.len()), (Some("Some CPU"), 3, 2));
        let power = cpuinfo(b"processor\t: 0\ncpu\t\t: POWER9\nclock\t: 2 MHz\n");
        assert_eq!((power.processor.as_deref(), power.logical, power.cores.len()), (Some("POWER9"), 1, 0));
        let arm = cpuinfo(b"processor\t: 0\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\n");
        assert_eq!((arm.processor, arm.logical), (None, 1));
        assert_eq!(cpuinfo(b"\xff:\xff\nprocessor"), CpuInfo::default());
    }

    #[test]
    fn unset_facts_are_absent() {
        for text in ["To Be Filled By O.E.M.", "Default string", "System Product Name", "Unknown"] {
            assert!(is_placeholder(text), "{text}");
        }
        assert!(!is_placeholder("ThinkPad X1") && !is_placeholder("Standard PC (Q35 + ICH9, 2009)"));
        let dir = tempfile::tempdir().unwrap();
        for (cpu, max) in [("cpu0", "0"), ("cpu1", "4294967295"), ("cpu2", "2400000"), ("cpu3", "-1")] {
            let folder = dir.path().join(cpu).join("cpufreq");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpuinfo_max_freq"), max).unwrap();
            fs::write(folder.join("cpuinfo_min_freq"), "0").unwrap();
        }
        let found = topology(dir.path());
        assert_eq!((found.min_hz, found.max_hz), (None, Some(2_400_000_000)));
    }
}
