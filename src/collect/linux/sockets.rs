//! Reads /proc/net/sockstat and sockstat6 into `sockets` records.

use anyhow::Result;

use super::netstat::sockstat;
use super::virtual_memory::recorded_page_size;
use crate::collect::{Collector, Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{Kind, SOCKETS, Sockets};

/// Reads both files (kernel `net/ipv4/proc.c`, `net/ipv6/proc.c`).
pub struct SocketsCollector {
    ipv4: Source,
    ipv6: Source,
    /// The page size: the files count memory in pages.
    page: Option<u64>,
}

impl SocketsCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        let source = |name: &str| Source::new(roots.proc.join("net").join(name));
        let page = if roots.foreign {
            recorded_page_size(&roots.proc)
        } else {
            Some(rustix::param::page_size() as u64)
        };
        Self { ipv4: source("sockstat"), ipv6: source("sockstat6"), page }
    }
}

impl Collector for SocketsCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&SOCKETS]
    }

    fn method(&self) -> String {
        format!("{} and {}", self.ipv4.path().display(), self.ipv6.path().display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&SOCKETS) {
            return Ok(());
        }
        let mut record = Sockets::default();
        for source in [&mut self.ipv4, &mut self.ipv6] {
            if let Some(text) = source.read_or_report(sample.ts, out)? {
                parse(text, self.page, &mut record);
            }
        }
        if record == Sockets::default() { Ok(()) } else { out.emit(sample.ts, &record) }
    }
}

fn parse(text: &[u8], page: Option<u64>, record: &mut Sockets) {
    sockstat(text, |protocol, name, value| {
        let (field, factor) = match (protocol, name) {
            (b"sockets", b"used") => (&mut record.used, Some(1)),
            (b"TCP", b"inuse") => (&mut record.tcp_in_use, Some(1)),
            (b"TCP", b"orphan") => (&mut record.tcp_orphan, Some(1)),
            (b"TCP", b"tw") => (&mut record.tcp_time_wait, Some(1)),
            (b"TCP", b"alloc") => (&mut record.tcp_allocated, Some(1)),
            (b"TCP", b"mem") => (&mut record.tcp_memory_bytes, page),
            (b"UDP", b"inuse") => (&mut record.udp_in_use, Some(1)),
            (b"UDP", b"mem") => (&mut record.udp_memory_bytes, page),
            (b"UDPLITE", b"inuse") => (&mut record.udplite_in_use, Some(1)),
            (b"RAW", b"inuse") => (&mut record.raw_in_use, Some(1)),
            (b"FRAG", b"inuse") => (&mut record.frag_in_use, Some(1)),
            (b"FRAG", b"memory") => (&mut record.frag_memory_bytes, Some(1)),
            (b"TCP6", b"inuse") => (&mut record.tcp6_in_use, Some(1)),
            (b"UDP6", b"inuse") => (&mut record.udp6_in_use, Some(1)),
            (b"UDPLITE6", b"inuse") => (&mut record.udplite6_in_use, Some(1)),
            (b"RAW6", b"inuse") => (&mut record.raw6_in_use, Some(1)),
            (b"FRAG6", b"inuse") => (&mut record.frag6_in_use, Some(1)),
            (b"FRAG6", b"memory") => (&mut record.frag6_memory_bytes, Some(1)),
            _ => return,
        };
        *field = factor.and_then(|factor| value.checked_mul(factor));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_in_bytes() {
        let mut record = Sockets::default();
        let ipv4 = b"sockets: used 1602\nTCP: inuse 35 orphan 1 tw 4 alloc 59 mem 22\nUDP: inuse 12 mem 62\n\
                     UDPLITE: inuse 2\nRAW: inuse 3\nFRAG: inuse 5 memory 4360\n";
        let ipv6 =
            b"TCP6: inuse 17\nUDP6: inuse 9\nUDPLITE6: inuse 6\nRAW6: inuse 1\nFRAG6: inuse 7 memory 8\n";
        parse(ipv4, Some(4096), &mut record);
        parse(ipv6, Some(4096), &mut record);
        let expected = Sockets {
            used: Some(1602),
            tcp_in_use: Some(35),
            tcp6_in_use: Some(17),
            tcp_orphan: Some(1),
            tcp_time_wait: Some(4),
            tcp_allocated: Some(59),
            tcp_memory_bytes: Some(90_112),
            udp_in_use: Some(12),
            udp6_in_use: Some(9),
            udp_memory_bytes: Some(253_952),
            udplite_in_use: Some(2),
            udplite6_in_use: Some(6),
            raw_in_use: Some(3),
            raw6_in_use: Some(1),
            frag_in_use: Some(5),
            frag6_in_use: Some(7),
            frag_memory_bytes: Some(4360),
            frag6_memory_bytes: Some(8),
        };
        assert_eq!(record, expected);
    }

    #[test]
    fn without_a_page_size_memory_is_absent() {
        let mut record = Sockets::default();
        parse(b"TCP: inuse 1 mem 5\n", None, &mut record);
        assert_eq!((record.tcp_in_use, record.tcp_memory_bytes), (Some(1), None));
    }
}
