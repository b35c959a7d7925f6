//! Parses the files of one process: /proc/PID/stat, status, cgroup and cmdline.

use crate::collect::text::{lines, number, split_word, words};

/// The fields of /proc/PID/stat that we use (kernel `fs/proc/array.c`, proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq)]
pub struct PidStat {
    /// The name, up to 15 bytes; invalid UTF-8 becomes U+FFFD.
    pub comm: String,
    /// The state, as a word.
    pub state: &'static str,
    /// The process id of the parent.
    pub ppid: Option<u32>,
    /// Page faults without I/O.
    pub minor_faults: Option<u64>,
    /// Page faults with I/O.
    pub major_faults: Option<u64>,
    /// Time in user mode, in ticks.
    pub user_ticks: u64,
    /// Time in the kernel, in ticks.
    pub system_ticks: u64,
    /// The number of threads.
    pub threads: u64,
    /// Start time, in ticks since boot.
    pub begin_ticks: u64,
    /// Address space in bytes.
    pub virtual_bytes: Option<u64>,
    /// Resident pages.
    pub rss_pages: u64,
}

impl PidStat {
    /// `None` if the line is incomplete. The name is in parentheses and can contain any
    /// byte, even parentheses: it ends at the last one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&byte| byte == b'(')?;
        let close = bytes.iter().rposition(|&byte| byte == b')').filter(|&close| close > open)?;
        let fields: Vec<_> = words(&bytes[close + 1..]).collect();
        // The manual counts from 1, and the fields after the name begin with number 3.
        let field = |manual: usize| fields.get(manual - 3).copied().and_then(number);
        Some(Self {
            comm: String::from_utf8_lossy(&bytes[open + 1..close]).into_owned(),
            state: state(fields.first()?),
            ppid: field(4).and_then(|pid| u32::try_from(pid).ok()),
            minor_faults: field(10),
            major_faults: field(12),
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            threads: field(20)?,
            begin_ticks: field(22)?,
            virtual_bytes: field(23),
            rss_pages: field(24)?,
        })
    }

    /// User and system time, in ticks.
    pub fn ticks(&self) -> u64 {
        self.user_ticks.saturating_add(self.system_ticks)
    }
}

/// The values of the semantic convention `process.state`, with some additions.
fn state(letter: &[u8]) -> &'static str {
    match letter {
        b"R" => "running",
        b"S" | b"W" | b"K" | b"P" => "sleeping",
        b"D" => "blocked",
        b"T" | b"t" => "stopped",
        b"Z" | b"X" | b"x" => "defunct",
        b"I" => "idle",
        _ => "unknown",
    }
}

/// The fields of /proc/PID/status that we use.
#[derive(Debug, Default, PartialEq)]
pub struct PidStatus {
    /// Real user id.
    pub uid: Option<u64>,
    /// Resident memory; absent for kernel threads.
    pub rss_bytes: Option<u64>,
    /// Swapped memory; absent for kernel threads.
    pub swap_bytes: Option<u64>,
}

impl PidStatus {
    /// Missing lines become `None`.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut status = Self::default();
        for line in lines(bytes) {
            let (name, rest) = split_word(line);
            let value = || number(split_word(rest).0);
            match name {
                b"Uid:" => status.uid = value(),
                b"VmRSS:" => status.rss_bytes = value().and_then(|kb| kb.checked_mul(1024)),
                b"VmSwap:" => status.swap_bytes = value().and_then(|kb| kb.checked_mul(1024)),
                _ => {}
            }
        }
        status
    }
}

/// The path in the unified hierarchy of /proc/PID/cgroup (cgroups(7)): the line `0::/path`.
pub fn cgroup(bytes: &[u8]) -> Option<String> {
    let path = lines(bytes).find_map(|line| line.strip_prefix(b"0::"))?;
    Some(String::from_utf8_lossy(path).into_owned())
}

/// The arguments in /proc/PID/cmdline, joined by blanks; `None` for kernel threads and zombies,
/// which have none. `cut` if the end may be missing: a character that is incomplete is dropped.
pub fn cmdline(bytes: &[u8], cut: bool) -> Option<String> {
    let whole = match str::from_utf8(bytes) {
        Err(error) if cut && error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    // A process that sets its title leaves padding behind.
    let end = bytes[..whole].iter().rposition(|byte| !matches!(byte, 0 | b' '))? + 1;
    let joined: Vec<u8> = bytes[..end].iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
    Some(String::from_utf8_lossy(&joined).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AFTER: &str = "S 7 1 1 0 -1 4194560 100 200 3 4 50 25 9 9 20 0 8 0 12345 4096000 321 0";

    #[test]
    fn a_name_can_contain_any_byte() {
        for name in ["cat", "a) R 1 (b", "", "(((", ") ", "x\ny"] {
            let stat = PidStat::parse(format!("42 ({name}) {AFTER}\n").as_bytes()).unwrap();
            assert_eq!((stat.comm.as_str(), stat.state, stat.ppid), (name, "sleeping", Some(7)));
        }
        let line = [b"1 (\xff\xfe) ", AFTER.as_bytes()].concat();
        assert_eq!(PidStat::parse(&line).unwrap().comm, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn fields_of_the_manual() {
        let stat = PidStat::parse(format!("42 (x) {AFTER}").as_bytes()).unwrap();
        assert_eq!((stat.minor_faults, stat.major_faults), (Some(100), Some(3)));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.ticks()), (50, 25, 75));
        assert_eq!((stat.threads, stat.begin_ticks), (8, 12_345));
        assert_eq!((stat.virtual_bytes, stat.rss_pages), (Some(4_096_000), 321));
        for torn in ["", "42", "42 (x)", "42 (x) S 1 2 3", ") (", "42 x) S"] {
            assert!(PidStat::parse(torn.as_bytes()).is_none(), "{torn}");
        }
    }

    #[test]
    fn command_lines() {
        assert_eq!(cmdline(b"/bin/sh\0-c\0echo 'a  b'\0", false).as_deref(), Some("/bin/sh -c echo 'a  b'"));
        assert_eq!(
            cmdline(b"nginx: worker process\0\0\0 \0", false).as_deref(),
            Some("nginx: worker process")
        );
        assert_eq!(cmdline(b"a\0\0b\0", false).as_deref(), Some("a  b"));
        assert_eq!((cmdline(b"", false), cmdline(b"\0 \0", false)), (None, None));
        assert_eq!(cmdline(b"x\xc3", true).as_deref(), Some("x"));
        assert_eq!(cmdline(b"x\xc3", false).as_deref(), Some("x\u{fffd}"));
    }

    #[test]
    fn status_and_cgroup() {
        let status = PidStatus::parse(b"Name:\tx\nUid:\t1000\t0\t0\t0\nVmRSS:\t     12 kB\nVmSwap:\t 0 kB\n");
        let expected = PidStatus { uid: Some(1000), rss_bytes: Some(12_288), swap_bytes: Some(0) };
        assert_eq!(status, expected);
        assert_eq!(PidStatus::parse(b"Uid:\nVmRSS:\t99999999999999999999 kB"), PidStatus::default());
        assert_eq!(
            cgroup(b"1:name=systemd:/a\n0::/system.slice/x.service\n").as_deref(),
            Some("/system.slice/x.service")
        );
        assert_eq!(cgroup(b"2:cpu:/\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..120), text in "[()0-9 RSDx-]{0,90}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                PidStat::parse(bytes);
                PidStatus::parse(bytes);
                cgroup(bytes);
                cmdline(bytes, true);
            }
        }
    }
}
