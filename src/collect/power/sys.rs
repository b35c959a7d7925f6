//! Small files of /sys, read once and closed: what stays open can keep a device awake.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::collect::text;

/// Where a path leads. Copies of /sys that were made without symbolic links have files in their place, which
/// hold the target.
pub fn resolve(path: PathBuf) -> PathBuf {
    if path.is_file()
        && let Ok(target) = fs::read_to_string(&path)
        && target.starts_with("../")
        && let Some(folder) = path.parent()
    {
        return folder.join(target.trim());
    }
    path
}

/// The entries of a folder that begin so, in the order that people count in. None if it cannot be read.
pub fn entries(folder: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.into_iter().map(|name| (name.clone(), resolve(folder.join(name)))).collect()
}

/// What a file holds, without blanks at its ends; `None` if it cannot be read or is empty.
pub fn word(path: &Path) -> Option<String> {
    text::text(&fs::read(path).ok()?)
}

/// The number in a file.
pub fn number(path: &Path) -> Option<f64> {
    text::decimal(fs::read(path).ok()?.trim_ascii())
}

/// A count in a file.
///
/// # Errors
/// What the system says of reading it; `InvalidData` if it is no count.
pub fn count(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    text::number(bytes.trim_ascii()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether the device of that folder sleeps: reading its other files could wake it.
pub fn asleep(device: &Path) -> bool {
    word(&device.join("power/runtime_status")).is_some_and(|status| status.starts_with("susp"))
}
