//! Small files of /sys, opened, read and closed each time, so that no device is held open.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::collect::text;

/// Reads a file. The kernel returns all of such a file in one read, so a read that does not fill the buffer was the last.
///
/// # Errors
/// If it cannot be opened or read.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (mut bytes, mut length) = (vec![0; 4096], 0);
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < bytes.len() {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.resize(2 * length, 0);
    }
}

/// Reads a non-negative number.
///
/// # Errors
/// If it cannot be read; [`io::ErrorKind::InvalidData`] if it is not a number.
pub fn counter(path: impl AsRef<Path>) -> io::Result<u64> {
    text::number(read(path)?.trim_ascii()).ok_or_else(not_a_number)
}

/// Reads a non-negative number, if there is one.
pub fn number(path: impl AsRef<Path>) -> Option<u64> {
    counter(path).ok()
}

/// Reads a number, which may be negative, and divides it.
///
/// # Errors
/// If it cannot be read; [`io::ErrorKind::InvalidData`] if it is not a number.
pub fn scaled(path: impl AsRef<Path>, divisor: f64) -> io::Result<f64> {
    let bytes = read(path)?;
    let value: Option<i64> = str::from_utf8(bytes.trim_ascii()).ok().and_then(|word| word.parse().ok());
    value.map(|value| value as f64 / divisor).ok_or_else(not_a_number)
}

/// The error of a file that should contain a number and does not.
fn not_a_number() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a number")
}

/// Reads a text; `None` if it is empty. Some drivers pad it with zero bytes.
pub fn word(path: impl AsRef<Path>) -> Option<String> {
    let bytes = read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0' || c == '\u{fffd}');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Lists the folders in `dir` with longer names than `prefix` that begin with it, in numeric order.
///
/// # Errors
/// If `dir` cannot be listed.
pub fn folders(dir: &Path, prefix: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() <= prefix.len() || !name.starts_with(prefix) {
            continue;
        }
        // For most entries the list itself has the type.
        let is_folder = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
        if let Some(path) = if is_folder { Some(entry.path()) } else { folder(&entry.path()) } {
            found.push((name, path));
        }
    }
    found.sort_by_cached_key(|(name, _)| numeric_key(name));
    Ok(found)
}

/// Like [`folders`], for names that end in a number, which is returned too.
///
/// # Errors
/// If `dir` cannot be listed.
pub fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<(u32, PathBuf)>> {
    let number = |name: &str| text::number(&name.as_bytes()[prefix.len()..])?.try_into().ok();
    let found = folders(dir, prefix)?.into_iter();
    Ok(found.filter_map(|(name, path)| Some((number(&name)?, path))).collect())
}

/// The folder that `path` is or links to. A tree copied by a program without symbolic links has files with the target
/// in them instead.
pub fn folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let size = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let target = std::fs::read(path).ok().filter(|_| (3..4096).contains(&size))?;
    let target = str::from_utf8(&target).ok()?.trim().trim_end_matches('/');
    let path = path.parent()?.join(target.starts_with("../").then_some(target)?);
    path.is_dir().then(|| path.canonicalize().unwrap_or(path))
}

/// A key that sorts `cpu10` after `cpu9`: every run of digits is padded.
fn numeric_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 20);
    let mut digits = String::new();
    for c in name.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>12}"));
            digits.clear();
        }
        key.push(c);
    }
    key
}

/// The runtime power state of a device (`power/runtime_status`, kernel `Documentation/power/runtime_pm.rst`) that sleeps or
/// is about to. Reading any other file of the device could wake it.
pub fn asleep(device: &Path) -> Option<String> {
    word(device.join("power/runtime_status")).filter(|status| status.starts_with("suspend"))
}

/// Parses a CPU list such as `0-3,8`.
pub fn list(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
            && last.saturating_sub(first) < 1 << 16
        {
            all.extend(first..=last);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_in_numeric_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["z10", "z9", "z9:2", "z9:10", "z", "y1"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::create_dir(dir.path().join("class")).unwrap();
        std::fs::write(dir.path().join("class/z11"), "../z10/\n").unwrap();
        std::fs::write(dir.path().join("z12"), "text").unwrap();
        let names =
            |prefix| folders(dir.path(), prefix).unwrap().into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(names("z"), ["z9", "z9:2", "z9:10", "z10"]);
        assert_eq!(numbered(dir.path(), "z").unwrap().len(), 2);
        let link = folders(&dir.path().join("class"), "z").unwrap().remove(0);
        assert_eq!(link, ("z11".into(), dir.path().join("z10").canonicalize().unwrap()));
        assert!(folders(&dir.path().join("none"), "z").is_err());
    }

    #[test]
    fn lists_and_words() {
        assert_eq!((list("0-2,8\n"), list(""), list("x,3-1")), (vec![0, 1, 2, 8], vec![], vec![]));
        let dir = tempfile::tempdir().unwrap();
        let file = |bytes: &[u8]| {
            std::fs::write(dir.path().join("f"), bytes).unwrap();
            dir.path().join("f")
        };
        assert_eq!(word(file(b"LNV-45N1\xff\0\0\n")), Some("LNV-45N1".into()));
        assert_eq!(scaled(file(b"-44000\n"), 1e3).unwrap(), -44.0);
        assert_eq!(scaled(file(b"\n"), 1e3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        for size in [0, 1, 4095, 4096, 4097, 20_000] {
            assert_eq!(read(file(&vec![b'x'; size])).unwrap(), vec![b'x'; size]);
        }
        assert_eq!(read(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!((number(file(b"12\n")), number(file(b"-1")), word(file(b"\n"))), (Some(12), None, None));
    }
}
