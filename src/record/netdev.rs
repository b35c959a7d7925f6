//! Network interfaces.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};
use crate::common::time::Timestamp;

/// The body of a `netdev` record: the sixteen counts of /proc/net/dev (kernel
/// `net/core/net-procfs.c`), of the network namespace that the program runs in.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Netdev<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// True for the interfaces whose sum is what the machine exchanges with the outside:
    /// those with a device behind them, and where there is none, as in a container, all
    /// but the loopback and those that lie on others (bridges, bonds, VLANs).
    pub whole: Option<bool>,
    /// When counting began: boot, or the last sample without the interface.
    pub start_ts: Option<Timestamp>,
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Packets received.
    pub rx_packets: Option<u64>,
    /// Packets received with an error.
    pub rx_errors: Option<u64>,
    /// Packets received and dropped, those that the device had no room for included.
    pub rx_dropped: Option<u64>,
    /// Overruns of the receive queue; part of the errors.
    pub rx_fifo_errors: Option<u64>,
    /// Frames of a wrong length, checksum or alignment; part of the errors.
    pub rx_frame_errors: Option<u64>,
    /// Packets received compressed (CSLIP, PPP).
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
    /// Underruns of the send queue; part of the errors.
    pub tx_fifo_errors: Option<u64>,
    /// Collisions.
    pub tx_collisions: Option<u64>,
    /// Losses of the carrier, aborts, and lost heartbeats; part of the errors.
    pub tx_carrier_errors: Option<u64>,
    /// Packets sent compressed (CSLIP, PPP).
    pub tx_compressed: Option<u64>,
    /// Length of the interval of the rates, in seconds.
    pub interval_s: Option<f64>,
    /// Bytes received per second.
    pub rx_bytes_per_s: Option<f64>,
    /// Bytes sent per second.
    pub tx_bytes_per_s: Option<f64>,
}

impl Record for Netdev<'_> {
    const KIND: &'static Kind = &NETDEV;
}

const RX: &[(&str, &str)] = &[("network.io.direction", "receive")];
const TX: &[(&str, &str)] = &[("network.io.direction", "transmit")];

/// Per interface and sample.
pub const NETDEV: Kind = Kind::metrics::<Netdev<'static>>(
    "netdev",
    "A network interface: bytes, packets, errors and drops since boot",
    Temporality::Cumulative,
    &[
        Metric::counter("rx_bytes", "system.network.io", "By")
            .with(RX)
            .prometheus("node_network_receive_bytes_total", 1.0),
        Metric::counter("tx_bytes", "system.network.io", "By")
            .with(TX)
            .prometheus("node_network_transmit_bytes_total", 1.0),
        packets("rx_packets", "system.network.packet.count")
            .with(RX)
            .hostmetrics("system.network.packets")
            .prometheus("node_network_receive_packets_total", 1.0),
        packets("tx_packets", "system.network.packet.count")
            .with(TX)
            .hostmetrics("system.network.packets")
            .prometheus("node_network_transmit_packets_total", 1.0),
        packets("rx_dropped", "system.network.packet.dropped")
            .with(RX)
            .hostmetrics("system.network.dropped")
            .prometheus("node_network_receive_drop_total", 1.0),
        packets("tx_dropped", "system.network.packet.dropped")
            .with(TX)
            .hostmetrics("system.network.dropped")
            .prometheus("node_network_transmit_drop_total", 1.0),
        errors("rx_errors", "system.network.errors")
            .with(RX)
            .prometheus("node_network_receive_errs_total", 1.0),
        errors("tx_errors", "system.network.errors")
            .with(TX)
            .prometheus("node_network_transmit_errs_total", 1.0),
        errors("rx_fifo_errors", "telepipe.network.fifo_errors")
            .with(RX)
            .prometheus("node_network_receive_fifo_total", 1.0),
        errors("tx_fifo_errors", "telepipe.network.fifo_errors")
            .with(TX)
            .prometheus("node_network_transmit_fifo_total", 1.0),
        errors("rx_frame_errors", "telepipe.network.frame_errors")
            .prometheus("node_network_receive_frame_total", 1.0),
        errors("tx_carrier_errors", "telepipe.network.carrier_errors")
            .prometheus("node_network_transmit_carrier_total", 1.0),
        Metric::counter("tx_collisions", "telepipe.network.collisions", "{collision}")
            .prometheus("node_network_transmit_colls_total", 1.0),
        packets("rx_multicast", "telepipe.network.multicast")
            .prometheus("node_network_receive_multicast_total", 1.0),
        packets("rx_compressed", "telepipe.network.compressed")
            .with(RX)
            .prometheus("node_network_receive_compressed_total", 1.0),
        packets("tx_compressed", "telepipe.network.compressed")
            .with(TX)
            .prometheus("node_network_transmit_compressed_total", 1.0),
    ],
)
.about(&[("interface", "network.interface.name"), ("whole", "telepipe.network.whole")])
.labels(&[("interface", "device")]);

const fn packets(field: &'static str, name: &'static str) -> Metric {
    Metric::counter(field, name, "{packet}")
}

const fn errors(field: &'static str, name: &'static str) -> Metric {
    Metric::counter(field, name, "{error}")
}
