//! The chips of /sys/class/hwmon: their devices, what they measure, and the names of their inputs.

use std::io;
use std::path::{Path, PathBuf};

use super::sysfs::{asleep, folders, number, word};

/// One hwmon chip.
pub struct Chip {
    /// Its device and its name, unique and stable: `coretemp.0/coretemp`.
    pub id: String,
    /// The driver's name for it.
    pub name: String,
    /// What it measures: `cpu`, `gpu`, `disk`, `memory`, `network`, `battery` or `other`.
    pub component: &'static str,
    /// Its files.
    pub folder: PathBuf,
    /// The device that it belongs to.
    device: Option<PathBuf>,
}

/// Names of chips by what they measure; `*` at the end stands for any characters.
const COMPONENTS: &[(&str, &[&str])] = &[
    (
        "cpu",
        &["coretemp", "k10temp", "k8temp", "zenpower", "fam15h_power", "via_cputemp", "cpu*", "soc_thermal"],
    ),
    ("gpu", &["amdgpu", "radeon", "nouveau", "i915*", "xe", "gpu*"]),
    ("disk", &["nvme", "drivetemp"]),
    ("memory", &["jc42", "spd5118", "ddr*"]),
    ("network", &["iwlwifi*", "mt79*", "r8169*", "i350bb", "ath*", "mlx*", "bnxt*"]),
    ("battery", &["BAT*", "AC*", "ucsi*"]),
];

/// Lists all chips in order.
///
/// # Errors
/// If /sys/class/hwmon cannot be listed.
pub fn chips(sys: &Path) -> io::Result<Vec<Chip>> {
    let found = folders(&sys.join("class/hwmon"), "hwmon")?;
    Ok(found.into_iter().map(|(name, folder)| Chip::new(&name, folder)).collect())
}

impl Chip {
    /// Reads the chip in `folder`, which the class lists as `own`.
    pub fn new(own: &str, folder: PathBuf) -> Self {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let above = device(&real);
        // Its id comes from the path; whether it sleeps is in the device that it links to.
        let device = super::sysfs::folder(&folder.join("device")).or_else(|| above.clone());
        let name = word(folder.join("name")).unwrap_or_else(|| own.to_owned());
        let of = above.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        let id = match of {
            Some(of) if of != name => format!("{of}/{name}"),
            _ => format!("{own}/{name}"),
        };
        let id = if name == own { own.to_owned() } else { id };
        Self { id, component: component(&name), name, folder, device }
    }

    /// The inputs with this prefix, such as `temp1` for `temp`, in order.
    pub fn inputs(&self, kind: &str) -> Vec<String> {
        let mut numbers: Vec<u32> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let input = name.to_str()?.strip_prefix(kind)?;
                input.strip_suffix("_input").or_else(|| input.strip_suffix("_average"))?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| format!("{kind}{number}")).collect()
    }

    /// The file of an input's value. For power, some chips have a mean and some the present value.
    pub fn file(&self, input: &str) -> PathBuf {
        let average = self.folder.join(format!("{input}_average"));
        if average.exists() { average } else { self.folder.join(format!("{input}_input")) }
    }

    /// The board's or the driver's label of an input.
    pub fn label(&self, input: &str) -> Option<String> {
        word(self.folder.join(format!("{input}_label")))
    }

    /// True if the driver reports a fault of an input's sensor.
    pub fn is_faulty(&self, input: &str) -> bool {
        number(self.folder.join(format!("{input}_fault"))).is_some_and(|fault| fault > 0)
    }

    /// The power state of its device, if that sleeps: reading an input would wake it.
    pub fn asleep(&self) -> Option<String> {
        asleep(self.device.as_deref()?)
    }

    /// True if it belongs to a GPU that is a DRM card.
    pub fn is_card(&self) -> bool {
        self.component == "gpu" && self.device.as_deref().is_some_and(|device| device.join("drm").is_dir())
    }

    /// True for a GPU with its own power supply. One inside a processor shares the processor's limit.
    pub fn is_discrete(&self) -> bool {
        // Only Intel's discrete GPUs have sensors.
        ["i915", "xe"].contains(&self.name.as_str()) || self.folder.join("power1_cap").exists()
    }

    /// True if it repeats a thermal zone.
    pub fn is_thermal_zone(&self) -> bool {
        self.id.starts_with("thermal_zone")
    }
}

/// The device folder above a chip: `…/coretemp.0` of `…/coretemp.0/hwmon/hwmon0`; `None` for a virtual chip.
fn device(real: &Path) -> Option<PathBuf> {
    let above = real.parent()?;
    let above = if above.file_name()? == "hwmon" { above.parent()? } else { above };
    let is_one = !["class", "virtual"].iter().any(|name| above.file_name().is_some_and(|it| it == *name));
    is_one.then(|| above.to_owned())
}

fn component(name: &str) -> &'static str {
    let is = |pattern: &&&str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == **pattern,
    };
    let found = COMPONENTS.iter().find(|(_, names)| names.iter().any(|name| is(&name)));
    found.map_or("other", |(component, _)| component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_components_of_chips() {
        let device = |path: &str| device(Path::new(path)).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(
            device("/sys/devices/platform/coretemp.0/hwmon/hwmon0").unwrap(),
            "/sys/devices/platform/coretemp.0"
        );
        assert_eq!(device("/sys/devices/pci0/nvme/nvme0/hwmon3").unwrap(), "/sys/devices/pci0/nvme/nvme0");
        assert_eq!(
            (device("/sys/devices/virtual/hwmon/hwmon2"), device("/t/class/hwmon/hwmon4")),
            (None, None)
        );
        assert_eq!(
            ["coretemp", "iwlwifi_1", "BAT0", "nct6779"].map(component),
            ["cpu", "network", "battery", "other"]
        );
    }
}
