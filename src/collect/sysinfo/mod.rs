//! The collectors of macOS, based on the sysinfo crate: host, CPU, load, memory, file
//! systems, interfaces.
//!
//! They emit the same kinds as the Linux collectors, with the fields that macOS has.
//! sysinfo supports Linux too, so the tests compare the records with /proc.

mod networks;
mod system;
mod volumes;

use anyhow::Result;

use super::{Collector, Roots, Sample, Settings};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{CPU, FILESYSTEM, HOST, INTERFACE, Kind, LOAD, MEMORY, NETDEV, Reason};

/// Makes every collector. A new one adds its line here.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    if settings.roots.foreign {
        return vec![Box::new(Foreign)];
    }
    vec![
        Box::new(system::SystemCollector::new(settings.per_cpu)),
        Box::new(volumes::VolumesCollector::new()),
        Box::new(networks::NetworksCollector::new()),
    ]
}

/// The boot time.
pub fn boot_time(roots: &Roots) -> Option<Timestamp> {
    let secs = if roots.foreign { 0 } else { ::sysinfo::System::boot_time() };
    (secs > 0).then(|| Timestamp::from_secs(secs))
}

/// Replaces all collectors if the roots are foreign, which macOS cannot read.
struct Foreign;

impl Collector for Foreign {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&HOST, &INTERFACE, &CPU, &LOAD, &MEMORY, &FILESYSTEM, &NETDEV]
    }

    fn method(&self) -> String {
        "nothing: foreign roots are read on Linux only".into()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let detail = "recorded /proc and /sys trees can only be read on Linux";
        out.status(sample.ts, "--proc-root", Reason::Unsupported, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect;

    #[test]
    fn every_kind_has_a_collector() {
        let settings = |foreign| Settings {
            roots: Roots { proc: "/proc".into(), sys: "/sys".into(), foreign },
            per_cpu: false,
            top: None,
            cmdline: true,
        };
        let names = |foreign| {
            let all = collectors(&settings(foreign));
            let mut names: Vec<_> = all.iter().flat_map(|one| one.kinds()).map(|kind| kind.name).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(true), names(false));
        assert_eq!(names(true).len(), 7);
    }

    #[test]
    fn boot_time_of_the_kernel() {
        let roots = |foreign| Roots { proc: "/proc".into(), sys: "/sys".into(), foreign };
        let (ours, theirs) = (collect::boot_time(&roots(false)).unwrap(), boot_time(&roots(false)).unwrap());
        assert!(ours.0.abs_diff(theirs.0) <= 1_000_000_000, "{ours} {theirs}");
        assert_eq!(boot_time(&roots(true)), None);
    }
}
