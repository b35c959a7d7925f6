//! Reads /proc/net/snmp, /proc/net/snmp6, /proc/net/netstat and TCP sockets by state into `tcp` and `udp` records.

use anyhow::Result;

use super::netstat::{columns, pairs};
use super::tcp_sockets::TcpSockets;
use crate::collect::text::number;
use crate::collect::{Collector, Roots, Sample, Source, rate};
use crate::common::emit::Emitter;
use crate::record::{Kind, TCP, Tcp, UDP, Udp};

/// Collects both protocols: they share a file, which is read once.
pub struct InetCollector {
    snmp: Source,
    snmp6: Source,
    netstat: Source,
    sockets: TcpSockets,
    /// The TCP counters of the previous sample.
    before: Tcp,
}

impl InetCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        let source = |name: &str| Source::new(roots.proc.join("net").join(name));
        Self {
            snmp: source("snmp"),
            snmp6: source("snmp6"),
            netstat: source("netstat"),
            sockets: TcpSockets::new(roots),
            before: Tcp::default(),
        }
    }
}

impl Collector for InetCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&TCP, &UDP]
    }

    fn method(&self) -> String {
        let Self { snmp, snmp6, netstat, sockets, .. } = self;
        let [snmp, snmp6, netstat] = [snmp, snmp6, netstat].map(|source| source.path().display());
        format!("{snmp}, {snmp6}, {netstat}; sockets by state from {}", sockets.method())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let (mut tcp, mut udp) = (Tcp::default(), Udp::default());
        // A sample that is not written still has to give the next one its counters.
        let wanted = |kind: &Kind| (sample.wanted)(kind);
        if (wanted(&TCP) || sample.wants(&UDP))
            && let Some(text) = self.snmp.read_or_report(sample.ts, out)?
            && !(snmp_tcp(text, &mut tcp) && snmp_udp(text, &mut udp))
        {
            self.snmp.report_invalid(sample.ts, out, "tables of names and values for Tcp and Udp")?;
        }
        let before = std::mem::replace(&mut self.before, tcp.clone());
        rates(&mut tcp, &before, sample);
        if sample.wants(&TCP) {
            self.sockets.count(sample, out, &mut tcp)?;
            if let Some(text) = self.netstat.read_or_report(sample.ts, out)?
                && !netstat_tcp(text, &mut tcp)
            {
                self.netstat.report_invalid(sample.ts, out, "a table of names and values for TcpExt")?;
            }
            if tcp != Tcp::default() {
                tcp.start_ts = sample.boot;
                out.emit(sample.ts, &tcp)?;
            }
        }
        if sample.wants(&UDP) {
            if let Some(text) = self.snmp6.read_or_report(sample.ts, out)? {
                snmp6_udp(text, &mut udp);
            }
            if udp != Udp::default() {
                udp.start_ts = sample.boot;
                out.emit(sample.ts, &udp)?;
            }
        }
        Ok(())
    }
}

/// Fills in the rates. There are none after a sample that failed, because `before` has no counters.
fn rates(tcp: &mut Tcp, before: &Tcp, sample: &Sample<'_>) {
    let per_s = |now, before| rate(now, before, sample.interval);
    tcp.active_opens_per_s = per_s(tcp.active_opens, before.active_opens);
    tcp.passive_opens_per_s = per_s(tcp.passive_opens, before.passive_opens);
    tcp.in_segments_per_s = per_s(tcp.in_segments, before.in_segments);
    tcp.out_segments_per_s = per_s(tcp.out_segments, before.out_segments);
    tcp.retransmitted_segments_per_s = per_s(tcp.retransmitted_segments, before.retransmitted_segments);
    let rates = [tcp.active_opens_per_s, tcp.in_segments_per_s, tcp.out_segments_per_s];
    tcp.interval_s = rates.into_iter().flatten().next().and(sample.interval_s());
}

fn snmp_tcp(text: &[u8], tcp: &mut Tcp) -> bool {
    columns(text, "Tcp:", |name, value| {
        let field = match name {
            b"ActiveOpens" => &mut tcp.active_opens,
            b"PassiveOpens" => &mut tcp.passive_opens,
            b"AttemptFails" => &mut tcp.attempt_fails,
            b"EstabResets" => &mut tcp.established_resets,
            b"CurrEstab" => &mut tcp.current_established,
            b"InSegs" => &mut tcp.in_segments,
            b"OutSegs" => &mut tcp.out_segments,
            b"RetransSegs" => &mut tcp.retransmitted_segments,
            b"InErrs" => &mut tcp.in_errors,
            b"InCsumErrors" => &mut tcp.in_checksum_errors,
            b"OutRsts" => &mut tcp.out_resets,
            _ => return,
        };
        *field = number(value);
    })
}

fn netstat_tcp(text: &[u8], tcp: &mut Tcp) -> bool {
    columns(text, "TcpExt:", |name, value| {
        let field = match name {
            b"ListenOverflows" => &mut tcp.listen_overflows,
            b"ListenDrops" => &mut tcp.listen_drops,
            b"TCPTimeouts" => &mut tcp.timeouts,
            b"TCPSynRetrans" => &mut tcp.syn_retransmits,
            b"TCPFastRetrans" => &mut tcp.fast_retransmits,
            b"TCPLostRetransmit" => &mut tcp.lost_retransmits,
            b"TCPOFOQueue" => &mut tcp.out_of_order,
            b"TCPRcvQDrop" => &mut tcp.receive_queue_drops,
            b"TCPBacklogDrop" => &mut tcp.backlog_drops,
            b"TCPAbortOnTimeout" => &mut tcp.aborts_on_timeout,
            b"TCPAbortOnMemory" => &mut tcp.aborts_on_memory,
            b"SyncookiesSent" => &mut tcp.syncookies_sent,
            b"SyncookiesRecv" => &mut tcp.syncookies_received,
            b"SyncookiesFailed" => &mut tcp.syncookies_failed,
            _ => return,
        };
        *field = number(value);
    })
}

fn snmp_udp(text: &[u8], udp: &mut Udp) -> bool {
    columns(text, "Udp:", |name, value| {
        let field = match name {
            b"InDatagrams" => &mut udp.ipv4_in_datagrams,
            b"OutDatagrams" => &mut udp.ipv4_out_datagrams,
            b"NoPorts" => &mut udp.ipv4_no_ports,
            b"InErrors" => &mut udp.ipv4_in_errors,
            b"RcvbufErrors" => &mut udp.ipv4_receive_buffer_errors,
            b"SndbufErrors" => &mut udp.ipv4_send_buffer_errors,
            b"InCsumErrors" => &mut udp.ipv4_in_checksum_errors,
            _ => return,
        };
        *field = number(value);
    })
}

fn snmp6_udp(text: &[u8], udp: &mut Udp) {
    pairs(text, |name, value| {
        let field = match name {
            b"Udp6InDatagrams" => &mut udp.ipv6_in_datagrams,
            b"Udp6OutDatagrams" => &mut udp.ipv6_out_datagrams,
            b"Udp6NoPorts" => &mut udp.ipv6_no_ports,
            b"Udp6InErrors" => &mut udp.ipv6_in_errors,
            b"Udp6RcvbufErrors" => &mut udp.ipv6_receive_buffer_errors,
            b"Udp6SndbufErrors" => &mut udp.ipv6_send_buffer_errors,
            b"Udp6InCsumErrors" => &mut udp.ipv6_in_checksum_errors,
            _ => return,
        };
        *field = Some(value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns are not in the kernel's order: a parser that went by position would fail.
    #[test]
    fn columns_are_found_by_name() {
        let text = b"Tcp: OutRsts InErrs MaxConn RetransSegs NewColumn InSegs\n\
                     Tcp: 184 3 -1 17 5 22164\n\
                     Udp: SndbufErrors InDatagrams\nUdp: 8 357\n";
        let (mut tcp, mut udp) = (Tcp::default(), Udp::default());
        assert!(snmp_tcp(text, &mut tcp) && snmp_udp(text, &mut udp));
        let expected = Tcp {
            out_resets: Some(184),
            in_errors: Some(3),
            retransmitted_segments: Some(17),
            in_segments: Some(22164),
            ..Tcp::default()
        };
        assert_eq!(tcp, expected);
        let expected =
            Udp { ipv4_send_buffer_errors: Some(8), ipv4_in_datagrams: Some(357), ..Udp::default() };
        assert_eq!(udp, expected);
    }

    #[test]
    fn rates_from_the_second_sample_on() {
        let sample = |interval| Sample {
            ts: crate::common::time::Timestamp(0),
            boot: None,
            interval,
            write: true,
            inventory: false,
            wanted: &|_| true,
        };
        let mut before: Option<Tcp> = None;
        let mut next = |segments: u64, retransmitted: Option<u64>| {
            let sample = sample(before.is_some().then_some(std::time::Duration::from_secs(2)));
            let mut tcp = Tcp {
                in_segments: Some(segments),
                out_segments: Some(3 * segments),
                retransmitted_segments: retransmitted,
                ..Tcp::default()
            };
            let previous = before.replace(tcp.clone()).unwrap_or_default();
            rates(&mut tcp, &previous, &sample);
            let Tcp { in_segments_per_s, out_segments_per_s, retransmitted_segments_per_s, .. } = tcp;
            (tcp.interval_s, in_segments_per_s, out_segments_per_s, retransmitted_segments_per_s)
        };
        assert_eq!(next(100, Some(7)), (None, None, None, None));
        assert_eq!(next(110, Some(8)), (Some(2.0), Some(5.0), Some(15.0), Some(0.5)));
        assert_eq!(next(112, None), (Some(2.0), Some(1.0), Some(3.0), None));
        assert_eq!(next(3, Some(9)), (None, None, None, None));
    }

    #[test]
    fn missing_columns_are_absent() {
        let mut tcp = Tcp::default();
        assert!(!snmp_tcp(b"Tcp: RetransSegs\n", &mut tcp));
        assert!(snmp_tcp(b"Tcp: RetransSegs InErrs\nTcp: x\n", &mut tcp));
        assert!(netstat_tcp(b"TcpExt: SyncookiesSent TCPTimeouts\nTcpExt: 2 99\n", &mut tcp));
        let expected = Tcp { syncookies_sent: Some(2), timeouts: Some(99), ..Tcp::default() };
        assert_eq!(tcp, expected);
    }
}
