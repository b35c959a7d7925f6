//! Calls that share one number: the first argument tells which it is, and some of them wait by design.

/// The number's name, and the first arguments of those that wait.
const SHARED: [(&str, &[u32]); 3] = [
    // accept, recv, recvfrom, recvmsg, accept4, recvmmsg (include/uapi/linux/net.h).
    ("socketcall", &[5, 10, 12, 17, 18, 19]),
    // semop, semtimedop, msgrcv (include/uapi/linux/ipc.h).
    ("ipc", &[1, 4, 12]),
    // SYSLOG_ACTION_READ (include/linux/syslog.h).
    ("syslog", &[2]),
];

/// A bit for each first argument.
const fn bits(arguments: &[u32]) -> u32 {
    let (mut bits, mut i) = (0, 0);
    while i < arguments.len() {
        bits |= 1 << arguments[i];
        i += 1;
    }
    bits
}

/// `waiting_calls` of `bpf/syscall.bpf.c`; the first is that of numbers which stand for one call.
pub const WAITING_CALLS: [u32; 4] = [0, bits(SHARED[0].1), bits(SHARED[1].1), bits(SHARED[2].1)];

/// Which of them is for a name.
pub fn place(name: &str) -> u8 {
    SHARED.iter().position(|(shared, _)| *shared == name).map_or(0, |at| at as u8 + 1)
}

/// Whether a call waits, by the place of its name and its first argument.
pub fn waits(place: u8, which: u64) -> bool {
    WAITING_CALLS[usize::from(place)] >> (which & 31) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_decides() {
        let of = |name, which| waits(place(name), which);
        assert!(of("socketcall", 10) && of("ipc", 12) && of("ipc", 1 << 16 | 4) && of("syslog", 2));
        assert!(!of("socketcall", 3) && !of("ipc", 14) && !of("syslog", 10) && !of("read", 2));
    }
}
