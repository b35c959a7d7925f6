//! Counts TCP sockets by state: by netlink `sock_diag` (kernel `net/ipv4/inet_diag.c`,
//! sock_diag(7)), or from /proc/net/tcp and tcp6 where netlink is refused.
//!
//! A dump by netlink walks the kernel's table once; the files walk it twice and print
//! every socket. Only two bytes of each message matter here, family and state; netlink
//! crates decode all of it, with allocations.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Result;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

use super::netstat::tcp_states;
use crate::collect::{Roots, Sample, Source, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Tcp, TcpStates};

/// Counts by netlink, and after a refusal from the files.
pub struct TcpSockets {
    diag: Diag,
    tcp: Source,
    tcp6: Source,
}

/// The state of the netlink socket.
enum Diag {
    Untried,
    Open(SockDiag),
    /// Refused, or the root is foreign.
    Unusable,
}

impl TcpSockets {
    /// Reads below `roots`; with a foreign root, never by netlink.
    pub fn new(roots: &Roots) -> Self {
        let source = |name: &str| Source::new(roots.proc.join("net").join(name));
        let diag = if roots.foreign { Diag::Unusable } else { Diag::Untried };
        Self { diag, tcp: source("tcp"), tcp6: source("tcp6") }
    }

    /// The source in use, for `--verbose`.
    pub fn method(&self) -> String {
        match self.diag {
            Diag::Unusable => format!("{} and {}", self.tcp.path().display(), self.tcp6.path().display()),
            Diag::Untried | Diag::Open(_) => "netlink sock_diag".into(),
        }
    }

    /// Fills in the two fields of sockets by state.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn count(&mut self, sample: &Sample<'_>, out: &mut Emitter, tcp: &mut Tcp) -> Result<()> {
        match self.by_netlink() {
            Ok(Some(Sockets { ipv4, ipv6 })) => {
                tcp.ipv4_sockets = Some(ipv4);
                tcp.ipv6_sockets = Some(ipv6);
                return Ok(());
            }
            Ok(None) => {}
            Err(error) => {
                self.diag = Diag::Unusable;
                let detail = format!("{error}; reading {} instead", self.tcp.path().display());
                let error = io::Error::new(error.kind(), detail);
                unreadable(out, sample.ts, "netlink sock_diag", &error)?;
            }
        }
        tcp.ipv4_sockets = by_file(&mut self.tcp, sample, out)?;
        tcp.ipv6_sockets = by_file(&mut self.tcp6, sample, out)?;
        Ok(())
    }

    fn by_netlink(&mut self) -> io::Result<Option<Sockets>> {
        if matches!(self.diag, Diag::Untried) {
            self.diag = Diag::Open(SockDiag::open()?);
        }
        match &mut self.diag {
            Diag::Open(diag) => diag.count().map(Some),
            _ => Ok(None),
        }
    }
}

fn by_file(source: &mut Source, sample: &Sample<'_>, out: &mut Emitter) -> Result<Option<TcpStates>> {
    let Some(text) = source.read_or_report(sample.ts, out)? else { return Ok(None) };
    let mut states = TcpStates::default();
    tcp_states(text, |state| add(&mut states, state));
    Ok(Some(states))
}

/// Sockets of both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sockets {
    /// `AF_INET` sockets.
    ipv4: TcpStates,
    /// `AF_INET6` sockets.
    ipv6: TcpStates,
}

/// The netlink socket.
struct SockDiag {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// The largest datagram of the kernel.
const MOST: usize = 32 * 1024;
/// Requests both families at once; the newer `SOCK_DIAG_BY_FAMILY` gives one.
const TCPDIAG_GETSOCK: u16 = 18;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
/// A bit per state from ESTABLISHED (1) to NEW_SYN_RECV (12). BOUND_INACTIVE is not a
/// state of TCP and would make the kernel walk another table.
const STATES: u32 = 0x1ffe;

impl SockDiag {
    /// Opens the socket.
    ///
    /// # Errors
    /// If the kernel has no netlink, or a sandbox refuses it.
    fn open() -> io::Result<Self> {
        let (family, protocol) = (AddressFamily::NETLINK, Some(netlink::SOCK_DIAG));
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
        // The kernel answers at once; the limit only avoids hanging on a bug.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(1)))?;
        Ok(Self { socket, buffer: vec![0; MOST], sequence: 0 })
    }

    /// Counts all TCP sockets of this network namespace.
    ///
    /// # Errors
    /// The kernel's error, or `InvalidData` for a malformed answer.
    fn count(&mut self) -> io::Result<Sockets> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &request(self.sequence), SendFlags::empty())?;
        let mut sockets = Sockets::default();
        loop {
            let length = match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((_, length)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let answer = self.buffer.get(..length).ok_or_else(|| invalid("an answer was too long"))?;
            if add_answer(answer, self.sequence, &mut sockets)? {
                return Ok(sockets);
            }
        }
    }
}

/// The header and a `struct inet_diag_req` that matches all sockets, without extensions.
fn request(sequence: u32) -> [u8; HEADER + 60] {
    let mut bytes = [0; HEADER + 60];
    let length = bytes.len() as u32;
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&TCPDIAG_GETSOCK.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes[HEADER + 52..HEADER + 56].copy_from_slice(&STATES.to_ne_bytes());
    bytes
}

/// Adds the sockets of one datagram; true if it was the last of the dump.
fn add_answer(mut rest: &[u8], sequence: u32, sockets: &mut Sockets) -> io::Result<bool> {
    while !rest.is_empty() {
        let header = rest.first_chunk::<HEADER>().ok_or_else(|| invalid("a header is cut off"))?;
        let [l0, l1, l2, l3, t0, t1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let message = rest.get(HEADER..length).ok_or_else(|| invalid("a message is cut off"))?;
        // Answers to an earlier request that timed out may still be queued.
        if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence {
            match u16::from_ne_bytes([t0, t1]) {
                NLMSG_NOOP => {}
                NLMSG_DONE => return status(message).map(|()| true),
                NLMSG_ERROR => {
                    status(message)?;
                    return Err(invalid("the request was acknowledged, not answered"));
                }
                TCPDIAG_GETSOCK => sockets.add(message)?,
                _ => return Err(invalid("a message of an unknown type")),
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The error in a message of type ERROR or DONE: a negative errno.
fn status(message: &[u8]) -> io::Result<()> {
    match message.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) | None => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

impl Sockets {
    /// `struct inet_diag_msg`: family, state …
    fn add(&mut self, message: &[u8]) -> io::Result<()> {
        const AF_INET: u8 = AddressFamily::INET.as_raw() as u8;
        const AF_INET6: u8 = AddressFamily::INET6.as_raw() as u8;
        match *message {
            [AF_INET, state, ..] => add(&mut self.ipv4, state),
            [AF_INET6, state, ..] => add(&mut self.ipv6, state),
            [_, _, ..] => {}
            _ => return Err(invalid("a socket is cut off")),
        }
        Ok(())
    }
}

/// Counts a socket by the kernel's number of its state (`include/net/tcp_states.h`).
fn add(states: &mut TcpStates, state: u8) {
    let count = match state {
        1 => &mut states.established,
        2 => &mut states.syn_sent,
        // NEW_SYN_RECV (12) is a request that is not yet a full socket.
        3 | 12 => &mut states.syn_received,
        4 => &mut states.fin_wait_1,
        5 => &mut states.fin_wait_2,
        6 => &mut states.time_wait,
        7 => states.closed.get_or_insert(0),
        8 => &mut states.close_wait,
        9 => &mut states.last_ack,
        10 => &mut states.listen,
        11 => &mut states.closing,
        _ => return,
    };
    *count += 1;
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = (HEADER + body.len()) as u32;
        let head =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0, 0], &sequence.to_ne_bytes(), &[0; 4]];
        let mut bytes = [head.concat(), body.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// As long as a message of the kernel, with an attribute at its end.
    fn socket(family: u8, state: u8) -> Vec<u8> {
        let mut body = vec![0; 72 + 5];
        body[..2].copy_from_slice(&[family, state]);
        message(TCPDIAG_GETSOCK, 7, &body)
    }

    #[test]
    fn a_dump_in_two_answers() {
        let mut sockets = Sockets::default();
        let first =
            [socket(2, 10), socket(10, 10), socket(2, 1), message(TCPDIAG_GETSOCK, 6, &[2, 1])].concat();
        assert!(!add_answer(&first, 7, &mut sockets).unwrap());
        let last = [socket(10, 12), message(NLMSG_NOOP, 7, &[]), message(NLMSG_DONE, 7, &[0; 4])].concat();
        assert!(add_answer(&last, 7, &mut sockets).unwrap());
        assert_eq!(sockets.ipv4, TcpStates { listen: 1, established: 1, ..Default::default() });
        assert_eq!(sockets.ipv6, TcpStates { listen: 1, syn_received: 1, ..Default::default() });
    }

    #[test]
    fn refusals_and_malformed_answers() {
        let code = |bytes: &[u8]| {
            let error = add_answer(bytes, 7, &mut Sockets::default()).unwrap_err();
            error.raw_os_error().ok_or(error.kind())
        };
        let denied = message(NLMSG_ERROR, 7, &(-13i32).to_ne_bytes());
        assert_eq!(code(&denied), Ok(13));
        assert_eq!(code(&message(NLMSG_DONE, 7, &(-2i32).to_ne_bytes())), Ok(2));
        let invalid = Err(io::ErrorKind::InvalidData);
        assert_eq!(code(&message(NLMSG_ERROR, 7, &[0; 4])), invalid);
        assert_eq!(code(&message(99, 7, &[0; 4])), invalid);
        assert_eq!(code(&message(TCPDIAG_GETSOCK, 7, &[2])), invalid);
        assert_eq!(code(&socket(2, 1)[..HEADER - 1]), invalid);
        assert_eq!(code(&socket(2, 1)[..40]), invalid);
        assert_eq!(code(&[0; HEADER]), invalid);
    }

    fn roots() -> Roots {
        Roots { proc: "/proc".into(), sys: "/sys".into(), foreign: false }
    }

    /// Both sources count the sockets of this test, among those of other programs.
    #[test]
    fn both_sources_count_the_sockets_of_this_test() {
        let listeners: Vec<_> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let streams: Vec<_> =
            listeners.iter().map(|to| TcpStream::connect(to.local_addr().unwrap()).unwrap()).collect();
        let mut sockets = TcpSockets::new(&roots());
        match sockets.by_netlink() {
            Ok(Some(found)) => {
                assert!(found.ipv4.listen >= 40 && found.ipv4.established >= 80, "{found:?}");
            }
            refused => eprintln!("netlink is refused: {:?}", refused.err()),
        }
        let mut states = TcpStates::default();
        tcp_states(sockets.tcp.read().unwrap(), |state| add(&mut states, state));
        assert!(states.listen >= 40 && states.established >= 80, "{states:?}");
        drop(streams);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded(bytes: Vec<u8>) {
            let _ = add_answer(&bytes, 7, &mut Sockets::default());
        }

        #[test]
        fn a_corrupted_dump_is_decoded(states in prop::collection::vec((prop::sample::select(vec![2u8, 10]), 0u8..16), 0..20), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = states.iter().map(|(family, state)| socket(*family, *state)).collect::<Vec<_>>().concat();
            bytes.extend(message(NLMSG_DONE, 7, &[0; 4]));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = add_answer(&bytes, 7, &mut Sockets::default());
        }

        #[test]
        fn every_socket_is_counted_once(states in prop::collection::vec((prop::sample::select(vec![2u8, 10]), 1u8..13), 0..50)) {
            let mut bytes = states.iter().map(|(family, state)| socket(*family, *state)).collect::<Vec<_>>().concat();
            bytes.extend(message(NLMSG_DONE, 7, &[]));
            let mut sockets = Sockets::default();
            prop_assert!(add_answer(&bytes, 7, &mut sockets).unwrap());
            let of = |family, state| states.iter().filter(|(f, s)| *f == family && *s == state).count() as u64;
            prop_assert_eq!(sockets.ipv4.listen, of(2, 10));
            prop_assert_eq!(sockets.ipv6.time_wait, of(10, 6));
            prop_assert_eq!(sockets.ipv6.syn_received, of(10, 3) + of(10, 12));
            let sum = |states: TcpStates| serde_json::to_value(states).unwrap().as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
            prop_assert_eq!(sum(sockets.ipv4) + sum(sockets.ipv6), states.len() as u64);
        }
    }
}
