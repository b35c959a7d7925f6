//! Graphics processors as sysfs lists them, without asking one.

use std::io;
use std::path::{Path, PathBuf};

use crate::collect::power::sysfs::{folder, folders, numbered, word};

/// A device of the class of displays and accelerators for graphics.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its PCI address, or its name among the cards.
    pub id: String,
    /// What the kernel drives it with.
    pub driver: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its folder among the cards, if it is one.
    pub card: Option<PathBuf>,
}

impl Device {
    /// Every one below this /sys: the cards, and what of NVIDIA's is no card.
    ///
    /// # Errors
    /// If the cards cannot be listed.
    pub fn all(sys: &Path) -> io::Result<Vec<Self>> {
        let cards = match numbered(&sys.join("class/drm"), "card") {
            Ok(cards) => cards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut found: Vec<Self> = Vec::new();
        for (at, card) in cards {
            let Some(device) = folder(&card.join("device")) else { continue };
            let (slot, driver) = (uevent(&device, "PCI_SLOT_NAME"), uevent(&device, "DRIVER"));
            let id = slot.unwrap_or_else(|| format!("card{at}"));
            found.push(Self { id, driver: driver.unwrap_or_default(), folder: device, card: Some(card) });
        }
        for (id, folder) in folders(&sys.join("bus/pci/devices"), "").unwrap_or_default() {
            let is =
                |file: &str, begin: &str| word(folder.join(file)).is_some_and(|text| text.starts_with(begin));
            let known = found.iter().any(|device| device.id == id);
            // 0x03: displays, and accelerators that have none (3D controllers).
            if !known && is("vendor", "0x10de") && is("class", "0x03") {
                let driver = uevent(&folder, "DRIVER").unwrap_or_default();
                found.push(Self { id, driver, folder, card: None });
            }
        }
        Ok(found)
    }
}

/// A line of the file `uevent`, which the kernel answers without the device.
fn uevent(device: &Path, key: &str) -> Option<String> {
    let text = word(device.join("uevent"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_owned)
}
