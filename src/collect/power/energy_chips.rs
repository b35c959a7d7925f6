//! Chips of hwmon that count energy (kernel `Documentation/hwmon/sysfs-interface.rst`, `amd_energy.rst`): what is
//! left where neither perf nor powercap can be read.

use std::io;
use std::path::{Path, PathBuf};

use super::chip::{Chip, chips};
use super::zone::Zone;
use crate::collect::text;

/// The chips of one tree.
pub struct EnergyChips {
    sys: PathBuf,
    files: Vec<(String, PathBuf)>,
}

impl EnergyChips {
    /// Below this /sys.
    pub fn new(sys: &Path) -> Self {
        Self { sys: sys.to_owned(), files: Vec::new() }
    }
}

/// What the label of `amd_energy` says: a socket, or a core in it. Others are told as they call themselves.
fn zone(chip: &Chip, input: &str, label: Option<String>) -> Zone {
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
        // 64 bits, kept by the driver.
        range: None,
        per_joule: 1e6,
        one_core: true,
    }
}

impl super::rapl::Counters for EnergyChips {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn place(&self) -> String {
        self.sys.join("class/hwmon").to_string_lossy().into_owned()
    }

    fn zones(&mut self) -> io::Result<Vec<Zone>> {
        self.files.clear();
        let mut zones = Vec::new();
        // A graphics processor's energy is told with it.
        for chip in chips(&self.sys)?.iter().filter(|chip| chip.component != "gpu" && chip.asleep().is_none())
        {
            for input in chip.inputs("energy") {
                let zone = zone(chip, &input, chip.label(&input));
                self.files.push((zone.id.clone(), chip.folder.join(format!("{input}_input"))));
                zones.push(zone);
            }
        }
        Ok(zones)
    }

    fn source(&self, zone: &Zone) -> String {
        let file = self.files.iter().find(|(id, _)| *id == zone.id);
        file.map_or_else(|| zone.id.clone(), |(_, path)| path.to_string_lossy().into_owned())
    }

    fn read(&mut self, zone: &Zone) -> io::Result<u64> {
        let bytes = super::sysfs::read(self.source(zone))?;
        text::number(bytes.trim_ascii()).ok_or_else(super::sysfs::not_a_number)
    }
}
