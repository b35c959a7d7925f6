//! Which file lies at an address of a process: from /proc/PID/maps.

/// The name of the mapping that holds `address`, and where in its file that is; `None` if there
/// is none, or it has no name.
pub fn find(maps: &[u8], address: u64) -> Option<(String, u64)> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // 55d0c8a00000-55d0c8a21000 rw-p 00001000 fe:00 1234    /path with spaces
        let mut rest = line;
        let mut word = || {
            let begin = rest.iter().position(|byte| *byte != b' ')?;
            let end =
                rest[begin..].iter().position(|byte| *byte == b' ').map_or(rest.len(), |len| begin + len);
            let (found, more) = (&rest[begin..end], &rest[end..]);
            rest = more;
            Some(found)
        };
        let hex = |text: &[u8]| u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok();
        let range = word()?;
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (hex(&range[..dash])?, hex(&range[dash + 1..])?);
        if !(first..last).contains(&address) {
            return None;
        }
        let _rights = word()?;
        let offset = hex(word()?)?;
        let (_device, _inode) = (word()?, word()?);
        let name = rest.trim_ascii_start();
        let name = String::from_utf8_lossy(name).into_owned();
        (!name.is_empty()).then_some((name, offset + (address - first)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] =
        b"55d0c8a00000-55d0c8a21000 r-xp 00002000 fe:00 1234                       /usr/bin/a b\n\
        55d0c8b00000-55d0c8b21000 rw-p 00000000 00:00 0 \n\
        7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n";

    #[test]
    fn names_and_offsets() {
        assert_eq!(find(MAPS, 0x55d0_c8a0_1010), Some(("/usr/bin/a b".into(), 0x3010)));
        assert_eq!(find(MAPS, 0x55d0_c8b0_0000), None);
        assert_eq!(find(MAPS, 0x7ffd_0000_0000), Some(("[stack]".into(), 0)));
        assert_eq!(find(MAPS, 0x7ffd_0002_1000), None, "the end is outside");
        assert_eq!(find(b"garbage\n", 1), None);
    }
}
