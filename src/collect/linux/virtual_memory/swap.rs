//! /proc/swaps → `swap`, /sys/block/zram*/mm_stat → `zram`.

use std::path::Path;

use crate::collect::text::{lines, number, unescape, words};
use crate::record::{Swap, Zram};

/// Parses the lines of /proc/swaps (kernel `mm/swapfile.c`): sizes are in KiB.
pub fn swaps(bytes: &[u8]) -> Vec<Swap> {
    lines(bytes).skip(1).filter_map(swap).collect()
}

fn swap(line: &[u8]) -> Option<Swap> {
    // From the end: a file name can contain anything, although the kernel writes its blanks as \040.
    let words: Vec<_> = words(line).collect();
    let [name @ .., swap_type, size, used, priority] = &words[..] else { return None };
    let bytes = |word: &[u8]| number(word)?.checked_mul(1024);
    let (size_bytes, used_bytes) = (bytes(size)?, bytes(used)?);
    Some(Swap {
        device: String::from_utf8_lossy(&unescape(&name.join(&b' '))).into_owned(),
        swap_type: String::from_utf8_lossy(swap_type).into_owned(),
        size_bytes,
        used_bytes,
        free_bytes: size_bytes.checked_sub(used_bytes)?,
        priority: str::from_utf8(priority).ok()?.parse().ok()?,
    })
}

/// The names of the zram devices.
pub fn zrams(sys: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(sys.join("block")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("zram")).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// Parses mm_stat (kernel `drivers/block/zram/zram_drv.c`); `None` for an empty device.
pub fn zram(device: &str, bytes: &[u8]) -> Option<Zram> {
    let numbers: Vec<_> = words(bytes).map(number).collect();
    let get = |index: usize| numbers.get(index).copied().flatten();
    let zram = Zram {
        device: device.to_owned(),
        stored_bytes: get(0)?,
        compressed_bytes: get(1)?,
        occupied_bytes: get(2)?,
        limit_bytes: get(3).filter(|limit| *limit > 0),
        peak_bytes: get(4),
        same_pages: get(5),
        compacted_pages: get(6),
        huge_pages: get(7),
    };
    (zram.stored_bytes + zram.occupied_bytes > 0).then_some(zram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_and_files() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/dm-2                               partition\t131068\t\t176\t\t-2\n\
            /swap\\040file                          file\t\t1024\t\t0\t\t5\n/cut partition 12\n";
        let found = swaps(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].device.as_str(), found[0].size_bytes, found[0].priority),
            ("/dev/dm-2", 134_213_632, -2)
        );
        assert_eq!((found[1].device.as_str(), found[1].swap_type.as_str()), ("/swap file", "file"));
        assert_eq!((found[0].used_bytes, found[0].free_bytes), (180_224, 134_033_408));
    }

    #[test]
    fn old_and_new_lines_of_mm_stat() {
        let old = zram("zram0", b"4096 100 8192 0 8192 1 2\n").unwrap();
        assert_eq!((old.stored_bytes, old.compressed_bytes, old.occupied_bytes), (4096, 100, 8192));
        assert_eq!((old.limit_bytes, old.same_pages, old.huge_pages), (None, Some(1), None));
        assert_eq!(zram("zram1", b"4096 100 8192 5 8192 1 2 3 4").unwrap().huge_pages, Some(3));
        for none in [&b"0 0 0 0 0 0 0 0 0"[..], b"", b"1 2", b"x 2 3"] {
            assert_eq!(zram("zram0", none), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            swaps(&[&b"Filename\n"[..], &bytes].concat());
            zram("zram0", &bytes);
            unescape(&bytes);
        }
    }
}
