//! The `netdev` record: traffic of network interfaces.

use super::prelude::*;

/// The body of a `netdev` record: the sixteen counts of /proc/net/dev (kernel
/// `net/core/net-procfs.c`), for the network namespace that the program runs in.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Netdev<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// True for the interfaces that add up to the machine's traffic: those with a device, or
    /// where there is none, as in a container, all but the loopback and interfaces on top of
    /// others (bridges, bonds, VLANs).
    pub whole: Option<bool>,
    /// When counting began: boot, or the last sample without the interface.
    pub start_ts: Option<Timestamp>,
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Packets received.
    pub rx_packets: Option<u64>,
    /// Packets received with an error.
    pub rx_errors: Option<u64>,
    /// Received packets that were dropped, including those missed for lack of buffers.
    pub rx_dropped: Option<u64>,
    /// Receive FIFO overruns; part of the errors.
    pub rx_fifo_errors: Option<u64>,
    /// Frames with a wrong length, checksum or alignment; part of the errors.
    pub rx_frame_errors: Option<u64>,
    /// Compressed packets received (CSLIP, PPP).
    pub rx_compressed: Option<u64>,
    /// Multicast packets received.
    pub rx_multicast: Option<u64>,
    /// Bytes sent.
    pub tx_bytes: Option<u64>,
    /// Packets sent.
    pub tx_packets: Option<u64>,
    /// Packets that could not be sent.
    pub tx_errors: Option<u64>,
    /// Packets dropped before they were sent.
    pub tx_dropped: Option<u64>,
    /// Send FIFO underruns; part of the errors.
    pub tx_fifo_errors: Option<u64>,
    /// Collisions.
    pub tx_collisions: Option<u64>,
    /// Lost carriers, aborts and lost heartbeats; part of the errors.
    pub tx_carrier_errors: Option<u64>,
    /// Compressed packets sent (CSLIP, PPP).
    pub tx_compressed: Option<u64>,
    /// Length of the interval of the rates, in seconds.
    pub interval_s: Option<f64>,
    /// Bytes received per second.
    pub rx_bytes_per_s: Option<f64>,
    /// Bytes sent per second.
    pub tx_bytes_per_s: Option<f64>,
    /// Packets received per second.
    pub rx_packets_per_s: Option<f64>,
    /// Packets sent per second.
    pub tx_packets_per_s: Option<f64>,
    /// Packets received with an error, per second.
    pub rx_errors_per_s: Option<f64>,
    /// Packets that could not be sent, per second.
    pub tx_errors_per_s: Option<f64>,
    /// Received packets dropped per second.
    pub rx_dropped_per_s: Option<f64>,
    /// Packets dropped before they were sent, per second.
    pub tx_dropped_per_s: Option<f64>,
}

const RX: &[(&str, &str)] = &[("network.io.direction", "receive")];
const TX: &[(&str, &str)] = &[("network.io.direction", "transmit")];

/// One per interface and sample.
pub const NETDEV: Kind = Kind::cumulative::<Netdev<'static>>(
    "netdev",
    "A network interface: bytes, packets, errors and drops since boot",
)
.about(&[("interface", "network.interface.name"), ("whole", "telepipe.network.whole")])
.labels(&[("interface", "device")])
.metrics(&[
    bytes("rx_bytes", RX).prometheus("node_network_receive_bytes_total"),
    bytes("tx_bytes", TX).prometheus("node_network_transmit_bytes_total"),
    packets("rx_packets", RX).prometheus("node_network_receive_packets_total"),
    packets("tx_packets", TX).prometheus("node_network_transmit_packets_total"),
    dropped("rx_dropped", RX).prometheus("node_network_receive_drop_total"),
    dropped("tx_dropped", TX).prometheus("node_network_transmit_drop_total"),
    errors("rx_errors", "system.network.errors", RX).prometheus("node_network_receive_errs_total"),
    errors("tx_errors", "system.network.errors", TX).prometheus("node_network_transmit_errs_total"),
    errors("rx_fifo_errors", FIFO, RX).prometheus("node_network_receive_fifo_total"),
    errors("tx_fifo_errors", FIFO, TX).prometheus("node_network_transmit_fifo_total"),
    errors("rx_frame_errors", "telepipe.network.frame_errors", &[])
        .prometheus("node_network_receive_frame_total"),
    errors("tx_carrier_errors", "telepipe.network.carrier_errors", &[])
        .prometheus("node_network_transmit_carrier_total"),
    Metric::counter("tx_collisions", "telepipe.network.collisions", "{collision}")
        .prometheus("node_network_transmit_colls_total"),
    Metric::counter("rx_multicast", "telepipe.network.multicast", "{packet}")
        .prometheus("node_network_receive_multicast_total"),
    compressed("rx_compressed", RX).prometheus("node_network_receive_compressed_total"),
    compressed("tx_compressed", TX).prometheus("node_network_transmit_compressed_total"),
]);

const FIFO: &str = "telepipe.network.fifo_errors";

const fn bytes(field: &'static str, direction: Pairs) -> Metric {
    Metric::counter(field, "system.network.io", "By").with(direction)
}

const fn packets(field: &'static str, direction: Pairs) -> Metric {
    let metric = Metric::counter(field, "system.network.packet.count", "{packet}").with(direction);
    metric.hostmetrics("system.network.packets")
}

const fn dropped(field: &'static str, direction: Pairs) -> Metric {
    let metric = Metric::counter(field, "system.network.packet.dropped", "{packet}").with(direction);
    metric.hostmetrics("system.network.dropped")
}

const fn errors(field: &'static str, name: &'static str, direction: Pairs) -> Metric {
    Metric::counter(field, name, "{error}").with(direction)
}

const fn compressed(field: &'static str, direction: Pairs) -> Metric {
    Metric::counter(field, "telepipe.network.compressed", "{packet}").with(direction)
}
