//! Energy counters in files: the RAPL zones of /sys/class/powercap, and hwmon chips that count energy.

use std::io;
use std::path::{Path, PathBuf};

use super::chip::{Chip, chips};
use super::sysfs::{folders, number, word};
use super::zones::{EnergySource, Zone};
use crate::collect::Roots;
use crate::collect::text;

/// /sys/class/powercap (kernel `drivers/powercap/powercap_sys.c`, `intel_rapl_common.c`).
pub struct Powercap {
    folder: PathBuf,
    /// A zone `core` counts the package's first core only: AMD has a counter per core, and the kernel reads that
    /// one (`drivers/powercap/intel_rapl_msr.c`).
    one_core: bool,
}

impl Powercap {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        let text = std::fs::read(roots.proc.join("cpuinfo")).unwrap_or_default();
        let vendor = text::lines(&text).find_map(|line| line.strip_prefix(b"vendor_id")).unwrap_or_default();
        let one_core = ["AuthenticAMD", "HygonGenuine"].iter().any(|amd| vendor.ends_with(amd.as_bytes()));
        Self { folder: roots.sys.join("class/powercap"), one_core }
    }
}

impl EnergySource for Powercap {
    fn name(&self) -> &'static str {
        "powercap"
    }

    fn folder(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }

    fn zones(&mut self) -> io::Result<Vec<Zone>> {
        let found = folders(&self.folder, "intel-rapl")?.into_iter();
        let zone = |(id, path): (String, PathBuf)| {
            // A name without a colon is the interface, not a zone.
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

    fn counter(&self, zone: &Zone) -> String {
        self.folder.join(&zone.id).join("energy_uj").to_string_lossy().into_owned()
    }
}

/// hwmon chips (kernel `Documentation/hwmon/sysfs-interface.rst`, `amd_energy.rst`), the last resort if neither perf
/// nor powercap can be read.
pub struct EnergyChips {
    sys: PathBuf,
    /// By zone: its file.
    files: Vec<(String, PathBuf)>,
}

impl EnergyChips {
    /// Reads below this /sys.
    pub fn new(sys: &Path) -> Self {
        Self { sys: sys.to_owned(), files: Vec::new() }
    }
}

impl EnergySource for EnergyChips {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn folder(&self) -> String {
        self.sys.join("class/hwmon").to_string_lossy().into_owned()
    }

    fn zones(&mut self) -> io::Result<Vec<Zone>> {
        self.files.clear();
        let mut zones = Vec::new();
        // The GPU collector reports the energy of GPUs.
        let wanted = |chip: &&Chip| chip.component != "gpu" && chip.asleep().is_none();
        for chip in chips(&self.sys)?.iter().filter(wanted) {
            for input in chip.inputs("energy") {
                let zone = chip_zone(chip, &input, chip.label(&input));
                self.files.push((zone.id.clone(), chip.folder.join(format!("{input}_input"))));
                zones.push(zone);
            }
        }
        Ok(zones)
    }

    fn counter(&self, zone: &Zone) -> String {
        let file = self.files.iter().find(|(id, _)| *id == zone.id);
        file.map_or_else(|| zone.id.clone(), |(_, path)| path.to_string_lossy().into_owned())
    }
}

/// Understands the labels of `amd_energy`: `Esocket0`, `Ecore001`. Other labels stay as they are.
fn chip_zone(chip: &Chip, input: &str, label: Option<String>) -> Zone {
    let label = label.unwrap_or_else(|| input.to_owned());
    let number = |prefix: &str| label.strip_prefix(prefix).filter(|rest| rest.parse::<u32>().is_ok());
    let name = match (number("Esocket"), number("Ecore")) {
        (Some(socket), _) => format!("package-{}", socket.trim_start_matches('0').parse().unwrap_or(0u32)),
        (_, Some(_)) => "core".to_owned(),
        _ => label.clone(),
    };
    Zone {
        id: format!("{}/{input}", chip.id),
        inside: None,
        control: chip.name.clone(),
        name,
        // The driver extends it to 64 bits.
        range: None,
        per_joule: 1e6,
        one_core: true,
    }
}
