//! The `udp` record: datagrams and errors.

use super::prelude::*;

/// The body of a `udp` record, for the network namespace that the program runs in: the
/// counts of /proc/net/snmp and snmp6 (RFC 4113).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Udp {
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// IPv4 datagrams delivered to sockets (`InDatagrams`).
    pub ipv4_in_datagrams: Option<u64>,
    /// IPv4 datagrams sent (`OutDatagrams`).
    pub ipv4_out_datagrams: Option<u64>,
    /// IPv4 datagrams to a port without a listener (`NoPorts`).
    pub ipv4_no_ports: Option<u64>,
    /// IPv4 datagrams that could not be delivered for another reason (`InErrors`).
    pub ipv4_in_errors: Option<u64>,
    /// How many of these errors were due to a full receive buffer (`RcvbufErrors`).
    pub ipv4_receive_buffer_errors: Option<u64>,
    /// IPv4 datagrams not sent because the send buffer was full (`SndbufErrors`).
    pub ipv4_send_buffer_errors: Option<u64>,
    /// How many of these errors were due to a wrong checksum (`InCsumErrors`).
    pub ipv4_in_checksum_errors: Option<u64>,
    /// IPv6 datagrams delivered to sockets (`Udp6InDatagrams`).
    pub ipv6_in_datagrams: Option<u64>,
    /// IPv6 datagrams sent (`Udp6OutDatagrams`).
    pub ipv6_out_datagrams: Option<u64>,
    /// IPv6 datagrams to a port without a listener (`Udp6NoPorts`).
    pub ipv6_no_ports: Option<u64>,
    /// IPv6 datagrams that could not be delivered for another reason (`Udp6InErrors`).
    pub ipv6_in_errors: Option<u64>,
    /// How many of these errors were due to a full receive buffer (`Udp6RcvbufErrors`).
    pub ipv6_receive_buffer_errors: Option<u64>,
    /// IPv6 datagrams not sent because the send buffer was full (`Udp6SndbufErrors`).
    pub ipv6_send_buffer_errors: Option<u64>,
    /// How many of these errors were due to a wrong checksum (`Udp6InCsumErrors`).
    pub ipv6_in_checksum_errors: Option<u64>,
}

const V4: Pairs = &[("network.type", "ipv4")];
const V6: Pairs = &[("network.type", "ipv6")];
const V4_RX: Pairs = &[("network.type", "ipv4"), ("network.io.direction", "receive")];
const V4_TX: Pairs = &[("network.type", "ipv4"), ("network.io.direction", "transmit")];
const V6_RX: Pairs = &[("network.type", "ipv6"), ("network.io.direction", "receive")];
const V6_TX: Pairs = &[("network.type", "ipv6"), ("network.io.direction", "transmit")];

/// One per sample. There are no semantic conventions for UDP.
pub const UDP: Kind = Kind::cumulative::<Udp>("udp", "UDP: datagrams sent, received and dropped since boot")
    .metrics(&[
        datagrams("ipv4_in_datagrams", V4_RX).prometheus("node_netstat_Udp_InDatagrams"),
        datagrams("ipv4_out_datagrams", V4_TX).prometheus("node_netstat_Udp_OutDatagrams"),
        no_ports("ipv4_no_ports", V4).prometheus("node_netstat_Udp_NoPorts"),
        errors("ipv4_in_errors", V4).prometheus("node_netstat_Udp_InErrors"),
        buffer_errors("ipv4_receive_buffer_errors", V4_RX).prometheus("node_netstat_Udp_RcvbufErrors"),
        buffer_errors("ipv4_send_buffer_errors", V4_TX).prometheus("node_netstat_Udp_SndbufErrors"),
        checksum_errors("ipv4_in_checksum_errors", V4).prometheus("node_netstat_Udp_InCsumErrors"),
        datagrams("ipv6_in_datagrams", V6_RX).prometheus("node_netstat_Udp6_InDatagrams"),
        datagrams("ipv6_out_datagrams", V6_TX).prometheus("node_netstat_Udp6_OutDatagrams"),
        no_ports("ipv6_no_ports", V6).prometheus("node_netstat_Udp6_NoPorts"),
        errors("ipv6_in_errors", V6).prometheus("node_netstat_Udp6_InErrors"),
        buffer_errors("ipv6_receive_buffer_errors", V6_RX).prometheus("node_netstat_Udp6_RcvbufErrors"),
        buffer_errors("ipv6_send_buffer_errors", V6_TX).prometheus("node_netstat_Udp6_SndbufErrors"),
        checksum_errors("ipv6_in_checksum_errors", V6).prometheus("node_netstat_Udp6_InCsumErrors"),
    ]);

const fn datagrams(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.udp.datagrams", "{datagram}").with(attributes)
}

const fn no_ports(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.udp.no_ports", "{datagram}").with(attributes)
}

const fn errors(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.udp.errors", "{datagram}").with(attributes)
}

const fn buffer_errors(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.udp.buffer_errors", "{datagram}").with(attributes)
}

const fn checksum_errors(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.udp.checksum_errors", "{datagram}").with(attributes)
}
