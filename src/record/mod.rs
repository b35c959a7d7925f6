//! The kinds of records, and the format of a line.
//!
//! A line is one JSON object: `ts` (when it was measured: RFC 3339, UTC, nine decimals), `kind`
//! (a name in [`KINDS`]), `host`, then the fields of the kind's struct. A field that could not be
//! measured is absent. Field names end in the unit.
//!
//! Each file declares one kind or a few related ones: a struct that derives `Serialize` and
//! `JsonSchema` (with `#[skip_serializing_none]` where fields are optional), and its [`Kind`].

mod battery;
mod body;
mod cpu;
mod cpu_power;
mod disk;
mod filesystem;
mod generic;
mod gpu;
mod help;
mod host;
mod io;
mod kernel;
mod load;
mod memory;
mod meta;
mod netdev;
mod pagefault;
mod paging;
mod power;
mod prelude;
mod pressure;
mod processes;
mod sched;
mod schema;
mod ship;
mod sockets;
mod swap;
mod syscall;
mod table;
mod task;
mod tcp;
mod thermal;
mod times;
mod udp;
mod values;
mod vmstat;

pub use body::write_fields;
pub use disk::DiskType;
pub use filesystem::Mode;
pub use generic::{Attributes, Counting, MetricType, SpanEvent, SpanKind, SpanLink, SpanStatus};
pub use help::metric_help;
pub use meta::Reason;
pub use schema::{FieldSchema, body_schema, field_schemas, json_type, map_value};
pub use table::{
    Established, Generic, HISTOGRAM_BOUNDS_LOG2_NS, Instrument, Kind, Level, Mapping, Metric, Record,
    Severity, Temporality, ZERO_THRESHOLD,
};
pub use tcp::TcpStates;
pub use times::{Distribution, Times};
pub use values::{Hex, RowNames, Rows};

/// Lists the kinds that each file declares, with the structs that are their bodies.
macro_rules! kinds {
    ($($file:ident: $($kind:ident $body:ident $(<$lifetime:lifetime>)?),+;)+) => {
        $(pub use $file::{$($kind, $body),+};)+

        $($(impl Record for $body $(<$lifetime>)? {
            const KIND: &'static Kind = &$kind;
        })+)+

        /// Every kind. A new kind is added here.
        pub static KINDS: &[&Kind] = &[$($(&$kind),+),+];
    };
}

kinds! {
    meta: STATUS Status, LOST Lost;
    generic: METRIC MetricPoint, LOG LogEntry, SPAN Span, SNAPSHOT Snapshot;
    host: HOST Host, INTERFACE Interface;
    cpu: CPU Cpu;
    kernel: KERNEL Kernel;
    load: LOAD Load;
    memory: MEMORY Memory;
    paging: PAGING Paging;
    vmstat: VMSTAT Vmstat;
    swap: SWAP Swap, ZRAM Zram;
    power: POWER Power;
    cpu_power: CPU_POWER CpuPower;
    gpu: GPU Gpu;
    thermal: TEMPERATURE Temperature, FAN Fan, VOLTAGE Voltage, THERMAL_PRESSURE ThermalPressure;
    battery: BATTERY Battery;
    task: TASK Task, PROCESS_POWER ProcessPower;
    pressure: PRESSURE Pressure;
    processes: PROCESSES Processes, PROCESS Process;
    disk: DISK Disk<'_>;
    filesystem: FILESYSTEM Filesystem<'_>;
    io: IO Io, IO_EVENT IoEvent;
    syscall: SYSCALL Syscall<'_>, SYSCALL_STUCK SyscallStuck<'_>, SYSCALL_SUMMARY SyscallSummary;
    pagefault: PAGEFAULT Pagefault, PAGEFAULT_SUMMARY PagefaultSummary, PAGEFAULT_PROCESS PagefaultProcess;
    sched: RUNQ Runq, RUNQ_EVENT RunqEvent, SCHED Sched;
    netdev: NETDEV Netdev<'_>;
    tcp: TCP Tcp;
    udp: UDP Udp;
    sockets: SOCKETS Sockets;
    ship: SHIP_STATS ShipStats;
}

/// Returns the kind called `name`.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).copied()
}

/// The longest line, in bytes without the newline.
pub const MAX_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn metrics(kind: &Kind) -> &'static [Metric] {
        match kind.mapping {
            Mapping::Metrics { metrics, .. } => metrics,
            _ => &[],
        }
    }

    #[test]
    fn declarations_name_existing_fields() {
        for kind in KINDS {
            let schema = body_schema(kind);
            let properties = schema["properties"].as_object().unwrap();
            let named = metrics(kind).iter().map(|metric| metric.field);
            let about = kind.attributes.iter().chain(kind.labels).map(|(field, _)| *field);
            let named = named.chain(about).chain(kind.total_if);
            for field in named {
                assert!(properties.contains_key(field), "{}: {field}", kind.name);
            }
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{}: {name} has no description", kind.name);
            }
        }
    }

    #[test]
    fn each_series_has_one_field_and_each_metric_one_unit_and_instrument() {
        let (mut units, mut names) = (HashMap::new(), HashSet::new());
        for kind in KINDS {
            assert!(names.insert(kind.name), "two kinds named {}", kind.name);
            let mut streams = HashSet::new();
            for metric in metrics(kind) {
                let stream = (metric.name, metric.attributes, metric.key);
                assert!(streams.insert(stream), "{}: two fields feed {stream:?}", kind.name);
                let thing = (metric.unit, metric.instrument);
                let first = *units.entry(metric.name).or_insert(thing);
                assert_eq!(first, thing, "{}: {} differs", kind.name, metric.name);
            }
        }
    }
}
