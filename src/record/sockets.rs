//! The `sockets` record: sockets in use and their memory.

use super::prelude::*;

/// The body of a `sockets` record, from /proc/net/sockstat and sockstat6 (kernel
/// `net/ipv4/proc.c`). Memory counts the whole machine, the other fields the network
/// namespace that the program runs in, unless noted.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Sockets {
    /// Sockets of any family.
    pub used: Option<u64>,
    /// IPv4 TCP sockets, including listening ones, without those in TIME-WAIT.
    pub tcp_in_use: Option<u64>,
    /// IPv6 TCP sockets.
    pub tcp6_in_use: Option<u64>,
    /// TCP connections that no process has open any more, on the whole machine.
    pub tcp_orphan: Option<u64>,
    /// TCP connections in TIME-WAIT.
    pub tcp_time_wait: Option<u64>,
    /// TCP sockets allocated, in any state, on the whole machine.
    pub tcp_allocated: Option<u64>,
    /// Memory of TCP buffers.
    pub tcp_memory_bytes: Option<u64>,
    /// IPv4 UDP sockets.
    pub udp_in_use: Option<u64>,
    /// IPv6 UDP sockets.
    pub udp6_in_use: Option<u64>,
    /// Memory of UDP buffers.
    pub udp_memory_bytes: Option<u64>,
    /// IPv4 UDP-Lite sockets.
    pub udplite_in_use: Option<u64>,
    /// IPv6 UDP-Lite sockets.
    pub udplite6_in_use: Option<u64>,
    /// IPv4 raw sockets.
    pub raw_in_use: Option<u64>,
    /// IPv6 raw sockets.
    pub raw6_in_use: Option<u64>,
    /// IPv4 packets waiting for more fragments.
    pub frag_in_use: Option<u64>,
    /// IPv6 packets waiting for more fragments.
    pub frag6_in_use: Option<u64>,
    /// Memory of these IPv4 fragments.
    pub frag_memory_bytes: Option<u64>,
    /// Memory of these IPv6 fragments.
    pub frag6_memory_bytes: Option<u64>,
}

const TCP: Pairs = &[("network.transport", "tcp"), ("network.type", "ipv4")];
const TCP6: Pairs = &[("network.transport", "tcp"), ("network.type", "ipv6")];
const UDP: Pairs = &[("network.transport", "udp"), ("network.type", "ipv4")];
const UDP6: Pairs = &[("network.transport", "udp"), ("network.type", "ipv6")];
const UDPLITE: Pairs = &[("network.transport", "udplite"), ("network.type", "ipv4")];
const UDPLITE6: Pairs = &[("network.transport", "udplite"), ("network.type", "ipv6")];
const RAW: Pairs = &[("network.transport", "raw"), ("network.type", "ipv4")];
const RAW6: Pairs = &[("network.transport", "raw"), ("network.type", "ipv6")];
const V4: Pairs = &[("network.type", "ipv4")];
const V6: Pairs = &[("network.type", "ipv6")];

/// One per sample. There are no semantic conventions for these.
pub const SOCKETS: Kind =
    Kind::cumulative::<Sockets>("sockets", "Sockets in use by protocol, and their memory").metrics(&[
        sockets("used", "telepipe.sockets.used").prometheus("node_sockstat_sockets_used"),
        in_use("tcp_in_use", TCP).prometheus("node_sockstat_TCP_inuse"),
        in_use("tcp6_in_use", TCP6).prometheus("node_sockstat_TCP6_inuse"),
        in_use("udp_in_use", UDP).prometheus("node_sockstat_UDP_inuse"),
        in_use("udp6_in_use", UDP6).prometheus("node_sockstat_UDP6_inuse"),
        in_use("udplite_in_use", UDPLITE).prometheus("node_sockstat_UDPLITE_inuse"),
        in_use("udplite6_in_use", UDPLITE6).prometheus("node_sockstat_UDPLITE6_inuse"),
        in_use("raw_in_use", RAW).prometheus("node_sockstat_RAW_inuse"),
        in_use("raw6_in_use", RAW6).prometheus("node_sockstat_RAW6_inuse"),
        sockets("tcp_orphan", "telepipe.sockets.tcp.orphan").prometheus("node_sockstat_TCP_orphan"),
        sockets("tcp_time_wait", "telepipe.sockets.tcp.time_wait").prometheus("node_sockstat_TCP_tw"),
        sockets("tcp_allocated", "telepipe.sockets.tcp.allocated").prometheus("node_sockstat_TCP_alloc"),
        memory("tcp_memory_bytes", &[("network.transport", "tcp")]).prometheus("node_sockstat_TCP_mem_bytes"),
        memory("udp_memory_bytes", &[("network.transport", "udp")]).prometheus("node_sockstat_UDP_mem_bytes"),
        packets("frag_in_use", V4).prometheus("node_sockstat_FRAG_inuse"),
        packets("frag6_in_use", V6).prometheus("node_sockstat_FRAG6_inuse"),
        frag_memory("frag_memory_bytes", V4).prometheus("node_sockstat_FRAG_memory"),
        frag_memory("frag6_memory_bytes", V6).prometheus("node_sockstat_FRAG6_memory"),
    ]);

const fn sockets(field: &'static str, name: &'static str) -> Metric {
    Metric::updown(field, name, "{socket}")
}

const fn in_use(field: &'static str, attributes: Pairs) -> Metric {
    sockets(field, "telepipe.sockets.in_use").with(attributes)
}

const fn memory(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "telepipe.sockets.memory", "By").with(attributes)
}

const fn packets(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "telepipe.sockets.fragmented", "{packet}").with(attributes)
}

const fn frag_memory(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "telepipe.sockets.fragment.memory", "By").with(attributes)
}
