//! Descriptions of metrics, for OTLP and for Prometheus' `# HELP` lines.

use std::collections::HashMap;

use super::schema::FieldSchema;
use super::table::Metric;

/// Descriptions of metrics that several fields feed. Any other metric is described by its field.
const SHARED: &[(&str, &str)] = &[
    ("hw.voltage", "Voltage measured by the sensor."),
    ("linux.page_fault.process.time", "Time that the process spent in page faults."),
    ("process.context_switches", "Times that the process was switched off a CPU."),
    ("process.cpu.time", "CPU time of the process."),
    ("process.paging.faults", "Page faults of the process."),
    ("system.cpu.time", "CPU time by mode."),
    ("system.cpu.utilization", "Part of the interval that the CPU spent in the mode, from 0 to 1."),
    ("system.disk.io", "Bytes read from and written to the block device."),
    ("system.disk.merged", "Requests merged with others before they reached the block device."),
    ("system.disk.operation_time", "Time that completed requests took, summed over the requests."),
    ("system.disk.operations", "Completed requests of the block device."),
    ("system.filesystem.inodes.usage", "Inodes of the file system by state."),
    ("system.filesystem.usage", "Space of the file system by state."),
    ("system.linux.psi.pressure", "Part of the window in which tasks waited for the resource, from 0 to 1."),
    ("system.linux.psi.total_time", "Time in which tasks waited for the resource."),
    ("system.memory.linux.hugepages.usage", "Huge pages of the default size by state."),
    ("system.memory.linux.slab.usage", "Memory of kernel objects by state."),
    ("system.memory.usage", "Memory by state."),
    ("system.network.connection.count", "Sockets by state."),
    ("system.network.errors", "Packets that could not be received or transmitted."),
    ("system.network.io", "Bytes received and transmitted by the interface."),
    ("system.network.packet.count", "Packets received and transmitted by the interface."),
    ("system.network.packet.dropped", "Packets dropped without an error."),
    ("system.paging.faults", "Page faults by type."),
    ("system.paging.operations", "Pages moved between memory and storage."),
    ("system.paging.usage", "Swap space by state."),
    ("telepipe.cpu.guest.time", "CPU time spent running guests, which system.cpu.time includes."),
    ("telepipe.cpu.residency", "Part of the interval that the CPU spent in the state, from 0 to 1."),
    ("telepipe.gpu.residency", "Part of the interval that the GPU spent in the state, from 0 to 1."),
    ("telepipe.network.compressed", "Compressed packets received and transmitted."),
    ("telepipe.network.fifo_errors", "FIFO buffer errors of the interface."),
    ("telepipe.paging.faults", "Page faults of all types."),
    ("telepipe.paging.io", "Bytes paged in from and out to storage."),
    ("telepipe.ship.items", "Points, log records, spans and rows by outcome."),
    ("telepipe.ship.lines", "Lines by outcome."),
    ("telepipe.sockets.fragment.memory", "Memory of IP fragments waiting for reassembly."),
    ("telepipe.sockets.fragmented", "IP packets waiting for reassembly."),
    ("telepipe.sockets.in_use", "Sockets in use by protocol."),
    ("telepipe.sockets.memory", "Memory of socket buffers by protocol."),
    ("telepipe.task.wakeups", "Wake-ups of the task a second."),
    ("telepipe.tcp.aborts", "Connections aborted by the kernel, by cause."),
    ("telepipe.tcp.segments", "TCP segments received and sent."),
    ("telepipe.thermal.level", "Thermal pressure level of the component, from 0."),
    ("telepipe.thermal.throttles", "Times that the hardware lowered its frequency because of heat."),
    ("telepipe.udp.buffer_errors", "UDP datagrams dropped because a socket buffer was full."),
    ("telepipe.udp.checksum_errors", "UDP datagrams received with a wrong checksum."),
    ("telepipe.udp.datagrams", "UDP datagrams received and sent."),
    ("telepipe.udp.errors", "UDP datagrams that could not be delivered."),
    ("telepipe.udp.no_ports", "UDP datagrams received for a port without a socket."),
    ("telepipe.vmstat.operations", "Pages by what the virtual memory system did with them."),
    ("telepipe.vmstat.pages", "Pages by state."),
    ("telepipe.vmstat.usage", "Memory by state."),
];

/// Describes a metric: by its own entry above, or else by the documentation of its field.
pub fn metric_help<'a>(metric: &Metric, fields: &'a HashMap<String, FieldSchema>) -> &'a str {
    let shared = SHARED.iter().find(|(name, _)| *name == metric.name).map(|(_, help)| *help);
    shared.or_else(|| fields.get(metric.field).map(|field| &*field.description)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::record::{KINDS, Mapping, field_schemas};

    #[test]
    fn metrics_of_several_fields_and_no_others_have_an_entry() {
        let mut descriptions = BTreeMap::<_, BTreeSet<_>>::new();
        for kind in KINDS {
            let Mapping::Metrics { metrics, .. } = kind.mapping else { continue };
            let fields = field_schemas(kind);
            for metric in metrics {
                assert!(!metric_help(metric, &fields).is_empty(), "{}", metric.name);
                descriptions.entry(metric.name).or_default().insert(fields[metric.field].description.clone());
            }
        }
        let shared: Vec<_> = SHARED.iter().map(|(name, _)| *name).collect();
        let several = descriptions.iter().filter(|(_, all)| all.len() > 1).map(|(name, _)| *name);
        assert_eq!(several.collect::<Vec<_>>(), shared);
    }
}
