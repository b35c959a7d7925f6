//! RAPL zones: what they are called, how they nest, and the interface that reads their counters.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::sysfs;

/// An energy counter and its position among the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Unique and stable: `intel-rapl:0:1`.
    pub id: String,
    /// The `id` of the zone that it is listed under.
    pub inside: Option<String>,
    /// The interface that it belongs to: `intel-rapl`, `intel-rapl-mmio`, `power`.
    pub control: String,
    /// The driver's name for it: `package-0`, `core`, `dram`, `psys`.
    pub name: String,
    /// The value at which it wraps.
    pub range: Option<u64>,
    /// Counts per joule.
    pub per_joule: f64,
    /// It counts a single core, not all cores of its package.
    pub one_core: bool,
}

impl Zone {
    /// The field `domain`: what uses the energy.
    pub fn domain(&self) -> String {
        match self.name.as_str() {
            name if name.starts_with("package") => "package".into(),
            "core" | "cores" if !self.one_core => "cpu".into(),
            name => slug(name),
        }
    }

    /// Whether this is its domain.
    pub fn is(&self, domain: &str) -> bool {
        self.domain() == domain
    }

    /// Whether it belongs to the second interface to the counters of `intel-rapl`.
    pub fn mmio(&self) -> bool {
        self.control.ends_with("-mmio")
    }

    /// `package-0` of `package-0-die-1`.
    pub fn package(&self) -> &str {
        self.name.split("-die-").next().unwrap_or_default()
    }
}

/// An interface to energy counters: perf, powercap or hwmon.
pub trait EnergySource {
    /// The field `source`.
    fn name(&self) -> &'static str;

    /// The folder of all counters.
    fn folder(&self) -> String;

    /// The zones at this moment.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn zones(&mut self) -> io::Result<Vec<Zone>>;

    /// The file or event of a zone's counter, for `status` records.
    fn counter(&self, zone: &Zone) -> String;

    /// Reads the counter of a zone.
    ///
    /// # Errors
    /// If the system refuses.
    fn read(&mut self, zone: &Zone) -> io::Result<u64> {
        sysfs::counter(self.counter(zone))
    }

    /// True if the counters were 0 when they were opened, and not at boot.
    fn counts_from_open(&self) -> bool {
        false
    }
}

/// Whether the machine has a counter of all its energy (`psys`), which contains every other one. Shared by the
/// collectors of processors and GPUs.
#[derive(Clone, Default)]
pub struct Platform(Rc<Cell<bool>>);

impl Platform {
    /// True if such a counter works.
    pub fn contains_all(&self) -> bool {
        self.0.get()
    }

    /// Sets it.
    pub fn set(&self, contains_all: bool) {
        self.0.set(contains_all);
    }
}

/// Turns a driver's name into a part of a metric name: `CPU Package` becomes `cpu_package`.
pub fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// The field `zone`: the names of the zone's parents and its own, `package-0/core`.
pub fn path(zones: &[Zone], zone: &Zone) -> String {
    let inside = zone.inside.as_ref().and_then(|id| zones.iter().find(|other| other.id == *id));
    let mut path = match inside {
        Some(parent) => format!("{}/{}", path(zones, parent), zone.name),
        None if zone.mmio() => format!("mmio/{}", zone.name),
        None => zone.name.clone(),
    };
    let twin = |other: &&Zone| (&other.name, &other.inside) == (&zone.name, &zone.inside);
    let twins = zones.iter().filter(|other| other.control == zone.control).filter(twin);
    if twins.count() > 1 {
        // Two packages with one name.
        path = format!("{path}@{}", zone.id);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!((slug("CPU Package"), slug("PCH-0")), ("cpu_package".into(), "pch_0".into()));
    }
}
