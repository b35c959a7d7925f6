//! /sys/class/powercap: the zones of RAPL (kernel `drivers/powercap/powercap_sys.c`, `intel_rapl_common.c`).

use std::io;
use std::path::PathBuf;

use super::sysfs::{folders, not_a_number, number, read, word};
use super::zone::Zone;
use crate::collect::Roots;
use crate::collect::text;

/// The zones of one tree.
pub struct Powercap {
    folder: PathBuf,
    /// Whether a zone `core` is of the package's first core alone: AMD has a counter for each core, of which the
    /// kernel reads that one (`drivers/powercap/intel_rapl_msr.c`).
    one_core: bool,
}

impl Powercap {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        let text = std::fs::read(roots.proc.join("cpuinfo")).unwrap_or_default();
        let vendor = text::lines(&text).find_map(|line| line.strip_prefix(b"vendor_id")).unwrap_or_default();
        let one_core = ["AuthenticAMD", "HygonGenuine"].iter().any(|amd| vendor.ends_with(amd.as_bytes()));
        Self { folder: roots.sys.join("class/powercap"), one_core }
    }
}

impl super::rapl::Counters for Powercap {
    fn name(&self) -> &'static str {
        "powercap"
    }

    fn place(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    fn zones(&mut self) -> io::Result<Vec<Zone>> {
        let found = folders(&self.folder, "intel-rapl")?.into_iter();
        let zone = |(id, path): (String, PathBuf)| {
            // One without a colon is the interface itself.
            let (above, _) = id.rsplit_once(':')?;
            let zone = Zone {
                inside: above.contains(':').then(|| above.to_owned()),
                control: id.split(':').next()?.to_owned(),
                name: word(path.join("name"))?,
                range: number(path.join("max_energy_range_uj")),
                per_joule: 1e6,
                one_core: self.one_core,
                id,
            };
            Some(zone)
        };
        Ok(found.filter_map(zone).collect())
    }

    fn source(&self, zone: &Zone) -> String {
        self.folder.join(&zone.id).join("energy_uj").to_string_lossy().into_owned()
    }

    fn read(&mut self, zone: &Zone) -> io::Result<u64> {
        let bytes = read(self.source(zone))?;
        text::number(bytes.trim_ascii()).ok_or_else(not_a_number)
    }
}
