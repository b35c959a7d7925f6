//! The `power` PMU of perf (kernel `arch/x86/events/rapl.c`). The kernel extends the counters to 64 bits, so they never
//! wrap here.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::FromRawFd as _;
use std::path::{Path, PathBuf};

use perf_event_open_sys as sys;

use super::sysfs::{list, number, word};
use super::zones::{EnergySource, Zone};
use crate::collect::text;

/// One open event per zone.
pub struct Perf {
    folder: PathBuf,
    events: Vec<(Zone, File)>,
}

/// An event of the PMU.
#[derive(Debug, PartialEq)]
struct Event {
    /// The name of its zone.
    name: &'static str,
    config: u64,
    per_joule: f64,
}

/// Event names, and the names of the powercap zones that count the same.
const EVENTS: &[(&str, &str)] = &[
    ("energy-pkg", "package"),
    ("energy-psys", "psys"),
    ("energy-cores", "core"),
    ("energy-gpu", "uncore"),
    ("energy-ram", "dram"),
];

impl Perf {
    /// Opens the events below this /sys, which must be this machine's.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] without such a PMU; otherwise the error of opening an event.
    pub fn open(sys: &Path) -> io::Result<Self> {
        let folder = sys.join("bus/event_source/devices/power");
        let mask = std::fs::read_to_string(folder.join("cpumask"))?;
        let kind = number(folder.join("type")).and_then(|kind| u32::try_from(kind).ok());
        let kind = kind.ok_or(io::ErrorKind::InvalidData)?;
        let mut events = Vec::new();
        for (zone, cpu, config) in zones(&events_of(&folder), &list(&mask), &sys.join("devices/system/cpu")) {
            let file = open(kind, config, cpu)?;
            events.push((zone, file));
        }
        if events.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { folder, events })
    }
}

/// The known events in a PMU's folder.
fn events_of(folder: &Path) -> Vec<Event> {
    let event = |(file, name): &(&str, &'static str)| {
        let path = folder.join("events").join(file);
        let config =
            word(&path)?.strip_prefix("event=0x").and_then(|hex| u64::from_str_radix(hex, 16).ok())?;
        let scale = text::decimal(word(path.with_extension("scale"))?.as_bytes())?;
        let joules = word(path.with_extension("unit")).is_none_or(|unit| unit == "Joules");
        (joules && scale > 0.0).then_some(Event { name, config, per_joule: 1.0 / scale })
    };
    EVENTS.iter().filter_map(event).collect()
}

/// Makes a zone for each event and each CPU of the mask, which lists one CPU per package or die. Returns the zone, the
/// CPU and the event's config.
fn zones(events: &[Event], cpus: &[u32], folder: &Path) -> Vec<(Zone, u32, u64)> {
    let topology = |cpu: u32, file: &str| number(folder.join(format!("cpu{cpu}/topology/{file}")));
    let package = |cpu| topology(cpu, "physical_package_id").unwrap_or(0);
    let mut all = Vec::new();
    for &cpu in cpus {
        let several = cpus.iter().filter(|&&other| package(other) == package(cpu)).count() > 1;
        let die = several.then(|| format!("-die-{}", topology(cpu, "die_id").unwrap_or_default()));
        let whole = format!("package-{}{}", package(cpu), die.unwrap_or_default());
        let id = |name: &str| format!("power:{name}:cpu{cpu}");
        let outer = events.iter().any(|event| event.name == "package").then(|| id("package"));
        for event in events {
            let top = ["package", "psys"].contains(&event.name);
            let zone = Zone {
                id: id(event.name),
                inside: outer.clone().filter(|_| !top),
                control: "power".into(),
                name: if event.name == "package" { whole.clone() } else { event.name.to_owned() },
                range: None,
                per_joule: event.per_joule,
                one_core: false,
            };
            all.push((zone, cpu, event.config));
        }
    }
    all
}

fn open(kind: u32, config: u64, cpu: u32) -> io::Result<File> {
    let mut attributes = sys::bindings::perf_event_attr {
        type_: kind,
        size: u32::try_from(size_of::<sys::bindings::perf_event_attr>()).unwrap_or(0),
        config,
        ..Default::default()
    };
    let cpu = i32::try_from(cpu).map_err(|_| io::ErrorKind::InvalidData)?;
    let flags = sys::bindings::PERF_FLAG_FD_CLOEXEC.into();
    // SAFETY: `attributes` is a complete structure with its size set, and lives until the call returns.
    let fd = unsafe { sys::perf_event_open(&mut attributes, -1, cpu, -1, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl EnergySource for Perf {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    fn zones(&mut self) -> io::Result<Vec<Zone>> {
        Ok(self.events.iter().map(|(zone, _)| zone.clone()).collect())
    }

    fn counter(&self, zone: &Zone) -> String {
        format!("{} {}", self.folder.display(), zone.id)
    }

    fn read(&mut self, zone: &Zone) -> io::Result<u64> {
        let event = self.events.iter_mut().find(|(other, _)| other.id == zone.id);
        let mut count = [0; 8];
        event.ok_or(io::ErrorKind::NotFound)?.1.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }

    fn counts_from_open(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::linux::power::dedup::{History, Measured, account};
    use crate::collect::linux::power::energy_counter::Reading;
    use crate::collect::linux::power::zones::path;

    #[test]
    fn events_become_zones() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (name, code) in [("pkg", "2"), ("ram", "3"), ("psys", "5"), ("odd", "9")] {
            write(&format!("events/energy-{name}"), &format!("event=0x0{code}\n"));
            write(&format!("events/energy-{name}.scale"), "2.3283064365386962890625e-10\n");
            write(&format!("events/energy-{name}.unit"), "Joules\n");
        }
        write("events/energy-cores", "nonsense");
        for (cpu, package, die) in [(0, 0, 0), (16, 1, 0), (24, 1, 1)] {
            write(&format!("cpu{cpu}/topology/physical_package_id"), &format!("{package}\n"));
            write(&format!("cpu{cpu}/topology/die_id"), &format!("{die}\n"));
        }
        let events = events_of(dir.path());
        assert_eq!(events[0], Event { name: "package", config: 2, per_joule: 4_294_967_296.0 });
        let found = zones(&events, &[0, 16, 24], dir.path());
        let only: Vec<_> = found.iter().map(|it| it.0.clone()).collect();
        let opened: Vec<_> = found.iter().map(|it| (path(&only, &it.0), it.1, it.2)).collect();
        let expected = [
            ("package-0", 0, 2),
            ("psys@power:psys:cpu0", 0, 5),
            ("package-0/dram", 0, 3),
            ("package-1-die-0", 16, 2),
            ("psys@power:psys:cpu16", 16, 5),
            ("package-1-die-0/dram", 16, 3),
            ("package-1-die-1", 24, 2),
            ("psys@power:psys:cpu24", 24, 5),
            ("package-1-die-1/dram", 24, 3),
        ];
        assert_eq!(opened, expected.map(|(path, cpu, config)| (path.to_owned(), cpu, config)));
    }

    /// The paths of the counted zones, for these totals in joules and these increases since the previous sample.
    fn counted(zones: &[Zone], joules: &[f64], used: Option<&[f64]>, history: &mut History) -> Vec<String> {
        let count = |at: usize, zone: &Zone| (joules[at] * zone.per_joule) as u64;
        let all: Vec<_> = zones
            .iter()
            .enumerate()
            .map(|(at, zone)| Measured {
                zone: zone.clone(),
                raw: count(at, zone),
                reading: Reading { used_joules: used.map(|used| used[at]), ..Reading::default() },
                from_open: true,
            })
            .collect();
        let accounts = account(&all, history);
        let counted = zones.iter().zip(&accounts).filter(|(_, account)| account.counted);
        counted.map(|(zone, _)| path(zones, zone)).collect()
    }

    /// The zones of these events on these CPUs of one package; odd CPUs are on its second die.
    fn zones_of(names: &[&'static str], cpus: &[u32]) -> Vec<Zone> {
        let dir = tempfile::tempdir().unwrap();
        for cpu in cpus {
            let topology = dir.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("physical_package_id"), "0\n").unwrap();
            std::fs::write(topology.join("die_id"), format!("{}\n", cpu % 2)).unwrap();
        }
        let event = |name: &&'static str| Event { name, config: 1, per_joule: 4_294_967_296.0 };
        let events: Vec<_> = names.iter().map(event).collect();
        zones(&events, cpus, dir.path()).into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn a_platform_that_was_zero_when_opened_is_counted_unless_it_stands_still() {
        let zones = zones_of(&["package", "psys"], &[0]);
        let mut history = History::default();
        assert_eq!(counted(&zones, &[0.0, 0.0], None, &mut history), ["psys"]);
        assert_eq!(counted(&zones, &[20.0, 0.0], Some(&[9.0, 0.0]), &mut history), ["psys"]);
        assert_eq!(counted(&zones, &[40.0, 70.0], Some(&[20.0, 70.0]), &mut history), ["psys"]);
        let mut history = History::default();
        assert_eq!(counted(&zones, &[0.0, 0.0], None, &mut history), ["psys"]);
        assert_eq!(counted(&zones, &[20.0, 0.0], Some(&[20.0, 0.0]), &mut history), ["package-0"]);
    }

    #[test]
    fn a_platform_alone_is_counted_only_if_it_counts() {
        let zones = zones_of(&["psys"], &[0]);
        let mut history = History::default();
        assert_eq!(counted(&zones, &[0.0], None, &mut history), ["psys"]);
        assert!(counted(&zones, &[0.0], Some(&[0.0]), &mut history).is_empty());
        assert_eq!(counted(&zones, &[7.0], Some(&[7.0]), &mut history), ["psys"]);
    }

    #[test]
    fn dies_that_were_zero_when_opened_are_compared_by_what_they_count() {
        let zones = zones_of(&["package"], &[0, 1]);
        let both = ["package-0-die-0", "package-0-die-1"];
        let mut history = History::default();
        assert_eq!(counted(&zones, &[0.0, 0.0], None, &mut history), both);
        assert_eq!(counted(&zones, &[30.0, 20.0], Some(&[30.0, 20.0]), &mut history), both);
        assert_eq!(counted(&zones, &[40.0, 40.0], Some(&[10.0, 20.0]), &mut history), both);
        let mut history = History::default();
        assert_eq!(counted(&zones, &[30.0, 30.01], Some(&[30.0, 30.01]), &mut history), both[..1]);
    }
}
