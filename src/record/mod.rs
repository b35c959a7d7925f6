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

pub use battery::{BATTERY, Battery};
pub use body::write_fields;
pub use cpu::{CPU, Cpu};
pub use cpu_power::{CPU_POWER, CpuPower};
pub use disk::{DISK, Disk, DiskType};
pub use filesystem::{FILESYSTEM, Filesystem, Mode};
pub use generic::{
    Attributes, Counting, LOG, LogEntry, METRIC, MetricPoint, MetricType, SNAPSHOT, SPAN, Snapshot, Span,
    SpanEvent, SpanKind, SpanLink, SpanStatus,
};
pub use gpu::{GPU, Gpu};
pub use help::metric_help;
pub use host::{HOST, Host, INTERFACE, Interface};
pub use io::{IO, IO_EVENT, Io, IoEvent};
pub use kernel::{KERNEL, Kernel};
pub use load::{LOAD, Load};
pub use memory::{MEMORY, Memory};
pub use meta::{LOST, Lost, Reason, STATUS, Status};
pub use netdev::{NETDEV, Netdev};
pub use pagefault::{
    PAGEFAULT, PAGEFAULT_PROCESS, PAGEFAULT_SUMMARY, Pagefault, PagefaultProcess, PagefaultSummary,
};
pub use paging::{PAGING, Paging};
pub use power::{POWER, Power};
pub use pressure::{PRESSURE, Pressure};
pub use processes::{PROCESS, PROCESSES, Process, Processes};
pub use sched::{RUNQ, RUNQ_EVENT, Runq, RunqEvent, SCHED, Sched};
pub use schema::{FieldSchema, body_schema, field_schemas, json_type, map_value};
pub use ship::{SHIP_STATS, ShipStats};
pub use sockets::{SOCKETS, Sockets};
pub use swap::{SWAP, Swap, ZRAM, Zram};
pub use syscall::{SYSCALL, SYSCALL_STUCK, SYSCALL_SUMMARY, Syscall, SyscallStuck, SyscallSummary};
pub use table::{
    Established, Generic, HISTOGRAM_BOUNDS_LOG2_NS, Instrument, Kind, Level, Mapping, Metric, Record,
    Severity, Temporality, ZERO_THRESHOLD,
};
pub use task::{PROCESS_POWER, ProcessPower, TASK, Task};
pub use tcp::{TCP, Tcp, TcpStates};
pub use thermal::{FAN, Fan, TEMPERATURE, THERMAL_PRESSURE, Temperature, ThermalPressure, VOLTAGE, Voltage};
pub use times::{Distribution, Times};
pub use udp::{UDP, Udp};
pub use values::{Hex, RowNames, Rows};
pub use vmstat::{VMSTAT, Vmstat};

/// Every kind. A new kind is added here.
pub static KINDS: &[&Kind] = &[
    &STATUS,
    &LOST,
    &METRIC,
    &LOG,
    &SPAN,
    &SNAPSHOT,
    &HOST,
    &INTERFACE,
    &CPU,
    &KERNEL,
    &LOAD,
    &MEMORY,
    &PAGING,
    &VMSTAT,
    &SWAP,
    &ZRAM,
    &POWER,
    &CPU_POWER,
    &GPU,
    &TEMPERATURE,
    &FAN,
    &VOLTAGE,
    &THERMAL_PRESSURE,
    &BATTERY,
    &TASK,
    &PROCESS_POWER,
    &PRESSURE,
    &PROCESSES,
    &PROCESS,
    &DISK,
    &FILESYSTEM,
    &IO,
    &IO_EVENT,
    &SYSCALL,
    &SYSCALL_STUCK,
    &SYSCALL_SUMMARY,
    &PAGEFAULT,
    &PAGEFAULT_SUMMARY,
    &PAGEFAULT_PROCESS,
    &RUNQ,
    &RUNQ_EVENT,
    &SCHED,
    &NETDEV,
    &TCP,
    &UDP,
    &SOCKETS,
    &SHIP_STATS,
];

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
