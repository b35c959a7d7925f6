//! Parses /proc/diskstats. A line is `MAJOR MINOR NAME`, then the counts that
//! /sys/block/NAME/stat has too (kernel `block/genhd.c`).

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::collect::text::{number, words};

/// The counts of one device, in the order of the file. Older kernels have fewer of them.
pub type Counts = [Option<u64>; 17];

/// Indexes of the counts.
pub mod at {
    pub const READS: usize = 0;
    pub const READS_MERGED: usize = 1;
    pub const READ_SECTORS: usize = 2;
    pub const READ_MS: usize = 3;
    pub const WRITES: usize = 4;
    pub const WRITES_MERGED: usize = 5;
    pub const WRITE_SECTORS: usize = 6;
    pub const WRITE_MS: usize = 7;
    pub const IN_FLIGHT: usize = 8;
    pub const IO_MS: usize = 9;
    pub const WEIGHTED_MS: usize = 10;
    pub const DISCARDS: usize = 11;
    pub const DISCARDS_MERGED: usize = 12;
    pub const DISCARD_SECTORS: usize = 13;
    pub const DISCARD_MS: usize = 14;
    pub const FLUSHES: usize = 15;
    pub const FLUSH_MS: usize = 16;
}

/// One line of the file.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    /// Major and minor number.
    pub dev: (u32, u32),
    /// The kernel's name.
    pub name: &'a [u8],
    /// The counts.
    pub counts: Counts,
}

/// Parses one line; `None` if it is malformed.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut words = words(line);
    let major = number(words.next()?)?.try_into().ok()?;
    let minor = number(words.next()?)?.try_into().ok()?;
    let name = words.next()?;
    let mut values = [0; 17];
    let mut count = 0;
    for word in words {
        let value = number(word)?;
        if let Some(slot) = values.get_mut(count) {
            *slot = value;
            count += 1;
        }
    }
    Some(Line { dev: (major, minor), name, counts: known(&values[..count])? })
}

/// Kernels print 11 (2.6), 15 (4.18) or 17 (5.5) counts, future ones perhaps more;
/// early 2.6 kernels print 4 for partitions.
fn known(values: &[u64]) -> Option<Counts> {
    let mut counts = Counts::default();
    let all: [usize; 17] = std::array::from_fn(|index| index);
    let indexes = match values.len() {
        4 => &[at::READS, at::READ_SECTORS, at::WRITES, at::WRITE_SECTORS][..],
        17.. => &all,
        15.. => &all[..15],
        11.. => &all[..11],
        _ => return None,
    };
    for (index, value) in indexes.iter().zip(values) {
        counts[*index] = Some(*value);
    }
    Some(counts)
}

/// Assembles the same text from /sys/block, for systems without /proc/diskstats.
///
/// # Errors
/// If the directory cannot be read.
pub fn gather(block: &Path, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    for disk in names(block)? {
        let dir = block.join(&disk);
        append(&dir, &disk, text);
        for part in names(&dir).unwrap_or_default() {
            let dir = dir.join(&part);
            if dir.join("partition").exists() {
                append(&dir, &part, text);
            }
        }
    }
    Ok(())
}

fn append(dir: &Path, name: &str, text: &mut Vec<u8>) {
    let Ok(stat) = fs::read(dir.join("stat")) else { return };
    let dev = fs::read_to_string(dir.join("dev")).unwrap_or_default();
    let (major, minor) = dev.trim().split_once(':').unwrap_or(("0", "0"));
    let _ = write!(text, "{major} {minor} {name} ");
    text.extend_from_slice(&stat);
    text.push(b'\n');
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut names: Vec<_> = fs::read_dir(dir)?.filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEW: &[u8] = b" 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17";

    fn first(count: usize) -> Counts {
        std::array::from_fn(|index| (index < count).then_some(index as u64 + 1))
    }

    #[test]
    fn lines_of_every_kernel_version() {
        for (words, count) in [(3 + 17, 17), (3 + 15, 15), (3 + 16, 15), (3 + 11, 11), (3 + 14, 11)] {
            let text =
                String::from_utf8_lossy(NEW).split_whitespace().take(words).collect::<Vec<_>>().join(" ");
            let line = parse(text.as_bytes()).unwrap();
            assert_eq!((line.dev, line.name), ((254, 0), &b"vda"[..]));
            assert_eq!(line.counts, first(count), "{text}");
        }
        let later = [NEW, b" 18 19"].concat();
        assert_eq!(parse(&later).unwrap().counts, first(17));
        let old = parse(b"3 1 hda1 35486 38030 38030 38040").unwrap().counts;
        assert_eq!(old[at::READS], Some(35486));
        assert_eq!(
            (old[at::READ_SECTORS], old[at::WRITES], old[at::WRITE_SECTORS]),
            (Some(38030), Some(38030), Some(38040))
        );
        assert_eq!(old.iter().flatten().count(), 4);
    }

    #[test]
    fn malformed_lines() {
        for garbled in [
            &b""[..],
            b"254 0",
            b"254 0 vda",
            b"254 0 vda 1 2 3 4 5 6 7 8 9 10",
            b"254 0 vda 1 2 3 4 5 6 7 8 9 10 x",
            b"254 0 vda 1 2 3 4 5 6 7 8 9 10 -1",
            b"254 0 vda 1 2 3 4 5 6 7 8 9 10 99999999999999999999",
            b"x 0 vda 1 2 3 4 5 6 7 8 9 10 11",
            b"4294967296 0 vda 1 2 3 4 5 6 7 8 9 10 11",
        ] {
            assert_eq!(parse(garbled), None, "{}", String::from_utf8_lossy(garbled));
        }
    }

    #[test]
    fn sysfs_gives_the_same_text() {
        let dir = tempfile::tempdir().unwrap();
        for (path, dev) in [("sda", "8:0\n"), ("sda/sda1", "8:1\n"), ("sda/queue", ""), ("loop0", "")] {
            let device = dir.path().join(path);
            fs::create_dir_all(&device).unwrap();
            if path != "sda/queue" {
                fs::write(device.join("stat"), " 1 2 3 4 5 6 7 8 9 10 11\n").unwrap();
            }
            if !dev.is_empty() {
                fs::write(device.join("dev"), dev).unwrap();
            }
        }
        fs::write(dir.path().join("sda/sda1/partition"), "1\n").unwrap();
        let mut text = b"left over".to_vec();
        gather(dir.path(), &mut text).unwrap();
        let found: Vec<_> = crate::collect::text::lines(&text).map(|line| parse(line).unwrap()).collect();
        let rows: Vec<_> = found.iter().map(|line| (line.dev, line.name)).collect();
        assert_eq!(rows, [((0, 0), &b"loop0"[..]), ((8, 0), b"sda"), ((8, 1), b"sda1")]);
        assert!(found.iter().all(|line| line.counts == first(11)));
        assert!(gather(&dir.path().join("none"), &mut text).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn a_line_of_the_kernel_is_parsed(values: [u64; 17], major: u32, minor: u32, name in "[a-z][a-z0-9!-]{0,30}") {
            let counts = values.map(|value| value.to_string()).join(" ");
            let text = format!("{major:4} {minor:7} {name} {counts}");
            let line = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(line, Line { dev: (major, minor), name: name.as_bytes(), counts: values.map(Some) });
        }
    }
}
