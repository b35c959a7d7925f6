//! TCP sockets by state: by netlink, or from /proc/net/tcp and tcp6 where that is refused.

use std::io;

use anyhow::Result;

use super::netstat::tcp_states;
use super::sock_diag::{SockDiag, Sockets, add};
use super::{Roots, Sample, Source, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Tcp, TcpStates};

/// The better way first.
pub struct TcpSockets {
    diag: Diag,
    tcp: Source,
    tcp6: Source,
}

/// How far netlink got.
enum Diag {
    Untried,
    Open(SockDiag),
    /// It is refused, or this machine is not the one to ask about.
    Never,
}

impl TcpSockets {
    /// Of that tree; netlink speaks of this machine only.
    pub fn new(roots: &Roots) -> Self {
        let source = |name: &str| Source::new(roots.proc.join("net").join(name));
        let diag = if roots.foreign { Diag::Never } else { Diag::Untried };
        Self { diag, tcp: source("tcp"), tcp6: source("tcp6") }
    }

    /// Which way it is.
    pub fn method(&self) -> String {
        match self.diag {
            Diag::Never => format!("{} and {}", self.tcp.path().display(), self.tcp6.path().display()),
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
                self.diag = Diag::Never;
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
    let Some(text) = source.read_or_tell(sample.ts, out)? else { return Ok(None) };
    let mut states = TcpStates::default();
    tcp_states(text, |state| add(&mut states, state));
    Ok(Some(states))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn roots() -> Roots {
        Roots { proc: "/proc".into(), sys: "/sys".into(), foreign: false }
    }

    /// Both ways see the sockets that this test holds, in a namespace where others come and go.
    #[test]
    fn both_ways_see_what_we_open() {
        let listeners: Vec<_> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let streams: Vec<_> =
            listeners.iter().map(|to| TcpStream::connect(to.local_addr().unwrap()).unwrap()).collect();
        let mut sockets = TcpSockets::new(&roots());
        match sockets.by_netlink() {
            Ok(Some(found)) => {
                assert!(found.ipv4.listen >= 40 && found.ipv4.established >= 80, "{found:?}");
            }
            refused => eprintln!("netlink is refused here: {:?}", refused.err()),
        }
        let mut states = TcpStates::default();
        tcp_states(sockets.tcp.read().unwrap(), |state| add(&mut states, state));
        assert!(states.listen >= 40 && states.established >= 80, "{states:?}");
        drop(streams);
    }
}
