//! The `tcp` record: connections, segments and errors.

use super::prelude::*;

/// Sockets by state, with the names that OpenTelemetry's `network.connection.state` has.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of RFC 9293")]
pub struct TcpStates {
    pub established: u64,
    pub syn_sent: u64,
    pub syn_received: u64,
    pub fin_wait_1: u64,
    pub fin_wait_2: u64,
    pub time_wait: u64,
    /// Absent if the kernel lists none: it does not list sockets that neither listen nor
    /// have an address to connect to, so their number is unknown.
    pub closed: Option<u64>,
    pub close_wait: u64,
    pub last_ack: u64,
    pub listen: u64,
    pub closing: u64,
}

/// The body of a `tcp` record, for the network namespace that the program runs in:
/// sockets by state (netlink `sock_diag`, or /proc/net/tcp and tcp6), and the counts
/// of /proc/net/snmp (RFC 4022) and /proc/net/netstat.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Tcp {
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// IPv4 sockets by state.
    pub ipv4_sockets: Option<TcpStates>,
    /// IPv6 sockets by state; an IPv6 socket can carry an IPv4 connection.
    pub ipv6_sockets: Option<TcpStates>,
    /// Connections that this host opened (`ActiveOpens`).
    pub active_opens: Option<u64>,
    /// Connections that another host opened (`PassiveOpens`).
    pub passive_opens: Option<u64>,
    /// Connections that failed before they were established (`AttemptFails`).
    pub attempt_fails: Option<u64>,
    /// Established connections that were reset (`EstabResets`).
    pub established_resets: Option<u64>,
    /// Connections in ESTABLISHED or CLOSE-WAIT now (`CurrEstab`).
    pub current_established: Option<u64>,
    /// Segments received, including those in error (`InSegs`).
    pub in_segments: Option<u64>,
    /// Segments sent, without pure retransmissions (`OutSegs`).
    pub out_segments: Option<u64>,
    /// Segments retransmitted (`RetransSegs`).
    pub retransmitted_segments: Option<u64>,
    /// Segments received in error, such as with a wrong checksum (`InErrs`).
    pub in_errors: Option<u64>,
    /// Segments received with a wrong checksum (`InCsumErrors`).
    pub in_checksum_errors: Option<u64>,
    /// Segments sent with the RST flag (`OutRsts`).
    pub out_resets: Option<u64>,
    /// Connections dropped because the accept queue was full (`ListenOverflows`).
    pub listen_overflows: Option<u64>,
    /// Connections dropped during the handshake, for any reason (`ListenDrops`).
    pub listen_drops: Option<u64>,
    /// Expirations of the retransmission timer (`TCPTimeouts`).
    pub timeouts: Option<u64>,
    /// SYN and SYN-ACK segments retransmitted (`TCPSynRetrans`).
    pub syn_retransmits: Option<u64>,
    /// Segments sent by fast retransmit (`TCPFastRetrans`).
    pub fast_retransmits: Option<u64>,
    /// Retransmitted segments that were lost too (`TCPLostRetransmit`).
    pub lost_retransmits: Option<u64>,
    /// Segments queued because they arrived out of order (`TCPOFOQueue`).
    pub out_of_order: Option<u64>,
    /// Segments dropped because the receive queue was full (`TCPRcvQDrop`).
    pub receive_queue_drops: Option<u64>,
    /// Segments dropped because the socket's backlog was full (`TCPBacklogDrop`).
    pub backlog_drops: Option<u64>,
    /// Connections aborted after a timeout (`TCPAbortOnTimeout`).
    pub aborts_on_timeout: Option<u64>,
    /// Connections aborted for lack of memory (`TCPAbortOnMemory`).
    pub aborts_on_memory: Option<u64>,
    /// SYN cookies sent (`SyncookiesSent`).
    pub syncookies_sent: Option<u64>,
    /// Valid SYN cookies received (`SyncookiesRecv`).
    pub syncookies_received: Option<u64>,
    /// Invalid SYN cookies received (`SyncookiesFailed`).
    pub syncookies_failed: Option<u64>,
    /// Length of the interval of the rates, in seconds.
    pub interval_s: Option<f64>,
    /// Connections that this host opened per second.
    pub active_opens_per_s: Option<f64>,
    /// Connections that another host opened per second.
    pub passive_opens_per_s: Option<f64>,
    /// Segments received per second.
    pub in_segments_per_s: Option<f64>,
    /// Segments sent per second, without pure retransmissions.
    pub out_segments_per_s: Option<f64>,
    /// Segments retransmitted per second.
    pub retransmitted_segments_per_s: Option<f64>,
}

const TRANSPORT: (&str, &str) = ("network.transport", "tcp");
const RX: &[(&str, &str)] = &[("network.io.direction", "receive")];
const TX: &[(&str, &str)] = &[("network.io.direction", "transmit")];

/// One per sample. Only the states have a semantic convention.
pub const TCP: Kind = Kind::cumulative::<Tcp>(
    "tcp",
    "TCP: sockets by state, segments sent, received, retransmitted and dropped since boot",
)
.metrics(&[
    states("ipv4_sockets", &[TRANSPORT, ("network.type", "ipv4")]),
    states("ipv6_sockets", &[TRANSPORT, ("network.type", "ipv6")]),
    connections("active_opens", "telepipe.tcp.active_opens").prometheus("node_netstat_Tcp_ActiveOpens"),
    connections("passive_opens", "telepipe.tcp.passive_opens").prometheus("node_netstat_Tcp_PassiveOpens"),
    connections("attempt_fails", "telepipe.tcp.attempt_fails").prometheus("node_netstat_Tcp_AttemptFails"),
    connections("established_resets", "telepipe.tcp.established_resets")
        .prometheus("node_netstat_Tcp_EstabResets"),
    Metric::updown("current_established", "telepipe.tcp.current_established", "{connection}")
        .prometheus("node_netstat_Tcp_CurrEstab"),
    segments("in_segments", "telepipe.tcp.segments").with(RX).prometheus("node_netstat_Tcp_InSegs"),
    segments("out_segments", "telepipe.tcp.segments").with(TX).prometheus("node_netstat_Tcp_OutSegs"),
    segments("retransmitted_segments", "telepipe.tcp.retransmits").prometheus("node_netstat_Tcp_RetransSegs"),
    segments("in_errors", "telepipe.tcp.errors").prometheus("node_netstat_Tcp_InErrs"),
    segments("in_checksum_errors", "telepipe.tcp.checksum_errors")
        .prometheus("node_netstat_Tcp_InCsumErrors"),
    segments("out_resets", "telepipe.tcp.resets").prometheus("node_netstat_Tcp_OutRsts"),
    connections("listen_overflows", "telepipe.tcp.listen.overflows")
        .prometheus("node_netstat_TcpExt_ListenOverflows"),
    connections("listen_drops", "telepipe.tcp.listen.drops").prometheus("node_netstat_TcpExt_ListenDrops"),
    Metric::counter("timeouts", "telepipe.tcp.timeouts", "{timeout}")
        .prometheus("node_netstat_TcpExt_TCPTimeouts"),
    segments("syn_retransmits", "telepipe.tcp.syn_retransmits")
        .prometheus("node_netstat_TcpExt_TCPSynRetrans"),
    segments("fast_retransmits", "telepipe.tcp.fast_retransmits")
        .prometheus("node_netstat_TcpExt_TCPFastRetrans"),
    segments("lost_retransmits", "telepipe.tcp.lost_retransmits")
        .prometheus("node_netstat_TcpExt_TCPLostRetransmit"),
    segments("out_of_order", "telepipe.tcp.out_of_order").prometheus("node_netstat_TcpExt_TCPOFOQueue"),
    segments("receive_queue_drops", "telepipe.tcp.receive_queue_drops")
        .prometheus("node_netstat_TcpExt_TCPRcvQDrop"),
    segments("backlog_drops", "telepipe.tcp.backlog_drops").prometheus("node_netstat_TcpExt_TCPBacklogDrop"),
    connections("aborts_on_timeout", "telepipe.tcp.aborts")
        .with(&[("error.type", "timeout")])
        .prometheus("node_netstat_TcpExt_TCPAbortOnTimeout"),
    connections("aborts_on_memory", "telepipe.tcp.aborts")
        .with(&[("error.type", "out_of_memory")])
        .prometheus("node_netstat_TcpExt_TCPAbortOnMemory"),
    cookies("syncookies_sent", "telepipe.tcp.syncookies.sent")
        .prometheus("node_netstat_TcpExt_SyncookiesSent"),
    cookies("syncookies_received", "telepipe.tcp.syncookies.received")
        .prometheus("node_netstat_TcpExt_SyncookiesRecv"),
    cookies("syncookies_failed", "telepipe.tcp.syncookies.failed")
        .prometheus("node_netstat_TcpExt_SyncookiesFailed"),
]);

const fn states(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "system.network.connection.count", "{connection}")
        .with(attributes)
        .keyed("network.connection.state")
        .hostmetrics("system.network.connections")
        .prometheus("node_tcp_connection_states")
        .prometheus_key(
            "state",
            &[
                ("syn_received", "syn_recv"),
                ("fin_wait_1", "fin_wait1"),
                ("fin_wait_2", "fin_wait2"),
                ("closed", "close"),
            ],
        )
}

const fn connections(field: &'static str, name: &'static str) -> Metric {
    Metric::counter(field, name, "{connection}")
}

const fn segments(field: &'static str, name: &'static str) -> Metric {
    Metric::counter(field, name, "{segment}")
}

const fn cookies(field: &'static str, name: &'static str) -> Metric {
    Metric::counter(field, name, "{cookie}")
}
