//! The registry of kinds, and the shape of a line.
//!
//! A line is one JSON object: `ts` (RFC 3339 UTC, nine decimals: when it was
//! measured), `kind` (a name of [`KINDS`]), `host`, then the fields of the
//! kind's struct. A field that could not be measured is absent. A file of this
//! folder holds one kind or one family: structs that derive `Serialize` and
//! `JsonSchema` (with `#[skip_serializing_none]` where fields are optional),
//! and beside each its [`Kind`] constant. Units are suffixes of field names.

mod battery;
mod body;
mod cpu;
mod cpu_power;
mod disk;
mod filesystem;
mod generic;
mod gpu;
mod hex;
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
mod rows;
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
mod vmstat;

pub use battery::{BATTERY, Battery};
pub use body::write_fields;
pub use cpu::{CPU, Cpu};
pub use cpu_power::{CPU_POWER, CpuPower};
pub use disk::{DISK, Disk, DiskType};
pub use filesystem::{FILESYSTEM, Filesystem, Mode};
pub use generic::{
    Attributes, Counting, LOG, LogEntry, METRIC, MetricPoint, MetricType, SNAPSHOT, SPAN, Snapshot, Span,
    SpanStatus,
};
pub use gpu::{GPU, Gpu};
pub use hex::Hex;
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
pub use rows::{Names, Rows};
pub use sched::{RUNQ, RUNQ_EVENT, Runq, RunqEvent, SCHED, Sched};
pub use schema::{body_schema, json_type};
pub use ship::{SHIP_STATS, ShipStats};
pub use sockets::{SOCKETS, Sockets};
pub use swap::{SWAP, Swap, ZRAM, Zram};
pub use syscall::{SYSCALL, SYSCALL_STUCK, SYSCALL_SUMMARY, Syscall, SyscallStuck, SyscallSummary};
pub use table::{
    Generic, Instrument, Kind, Level, Metric, Record, Severity, Signal, Temporality, ZERO_THRESHOLD,
};
pub use task::{PROCESS_POWER, ProcessPower, TASK, Task};
pub use tcp::{TCP, Tcp, TcpStates};
pub use thermal::{FAN, Fan, TEMPERATURE, THERMAL_PRESSURE, Temperature, ThermalPressure, VOLTAGE, Voltage};
pub use times::{Distribution, Times};
pub use udp::{UDP, Udp};
pub use vmstat::{VMSTAT, Vmstat};

/// Every kind there is. A new kind adds its line here.
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

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).copied()
}

/// The longest line, in bytes without its newline.
pub const MAX_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn metrics(kind: &Kind) -> &'static [Metric] {
        match kind.signal {
            Signal::Metrics { metrics, .. } => metrics,
            _ => &[],
        }
    }

    #[test]
    fn tables_name_fields_that_there_are() {
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
                assert!(property["description"].is_string(), "{}: {name} says nothing of itself", kind.name);
            }
        }
    }

    #[test]
    fn a_stream_is_fed_once_and_a_metric_is_one_thing() {
        let (mut units, mut names) = (HashMap::new(), HashSet::new());
        for kind in KINDS {
            assert!(names.insert(kind.name), "two kinds are called {}", kind.name);
            let mut streams = HashSet::new();
            for metric in metrics(kind) {
                let stream = (metric.name, metric.attributes, metric.key);
                assert!(streams.insert(stream), "{}: two fields are {stream:?}", kind.name);
                let thing = (metric.unit, metric.instrument);
                let first = *units.entry(metric.name).or_insert(thing);
                assert_eq!(first, thing, "{}: {} is two things", kind.name, metric.name);
            }
        }
    }
}
