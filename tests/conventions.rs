//! Metrics with a name from OpenTelemetry's semantic conventions have the unit, the instrument and the attributes that
//! the conventions define. The names come from the conventions' package; units and instruments from its documentation.

use std::collections::BTreeSet;

use assert_cmd::Command;
use opentelemetry_semantic_conventions::{attribute as a, metric as m};
use serde_json::Value;

const CONVENTIONS: &[(&str, &str, &str)] = &[
    (m::HW_BATTERY_CHARGE, "1", "gauge"),
    (m::HW_ENERGY, "J", "counter"),
    (m::HW_FAN_SPEED, "rpm", "gauge"),
    (m::HW_GPU_MEMORY_LIMIT, "By", "updowncounter"),
    (m::HW_GPU_MEMORY_USAGE, "By", "updowncounter"),
    (m::HW_GPU_MEMORY_UTILIZATION, "1", "gauge"),
    (m::HW_GPU_UTILIZATION, "1", "gauge"),
    (m::HW_POWER, "W", "gauge"),
    (m::HW_TEMPERATURE, "Cel", "gauge"),
    (m::HW_VOLTAGE, "V", "gauge"),
    (m::PROCESS_CONTEXT_SWITCHES, "{context_switch}", "counter"),
    (m::PROCESS_CPU_TIME, "s", "counter"),
    (m::PROCESS_MEMORY_USAGE, "By", "updowncounter"),
    (m::PROCESS_MEMORY_VIRTUAL, "By", "updowncounter"),
    (m::PROCESS_PAGING_FAULTS, "{fault}", "counter"),
    (m::PROCESS_THREAD_COUNT, "{thread}", "updowncounter"),
    (m::SYSTEM_CPU_LOGICAL_COUNT, "{cpu}", "updowncounter"),
    (m::SYSTEM_CPU_TIME, "s", "counter"),
    (m::SYSTEM_CPU_UTILIZATION, "1", "gauge"),
    (m::SYSTEM_DISK_IO, "By", "counter"),
    (m::SYSTEM_DISK_IO_TIME, "s", "counter"),
    (m::SYSTEM_DISK_MERGED, "{operation}", "counter"),
    (m::SYSTEM_DISK_OPERATIONS, "{operation}", "counter"),
    (m::SYSTEM_DISK_OPERATION_TIME, "s", "counter"),
    (m::SYSTEM_FILESYSTEM_LIMIT, "By", "updowncounter"),
    (m::SYSTEM_FILESYSTEM_USAGE, "By", "updowncounter"),
    (m::SYSTEM_FILESYSTEM_UTILIZATION, "1", "gauge"),
    (m::SYSTEM_MEMORY_LIMIT, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_AVAILABLE, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_HUGEPAGES_LIMIT, "{page}", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_HUGEPAGES_PAGE_SIZE, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_HUGEPAGES_RESERVED, "{page}", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_HUGEPAGES_SURPLUS, "{page}", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_HUGEPAGES_USAGE, "{page}", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_SHARED, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_LINUX_SLAB_USAGE, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_USAGE, "By", "updowncounter"),
    (m::SYSTEM_MEMORY_UTILIZATION, "1", "gauge"),
    (m::SYSTEM_NETWORK_CONNECTION_COUNT, "{connection}", "updowncounter"),
    (m::SYSTEM_NETWORK_ERRORS, "{error}", "counter"),
    (m::SYSTEM_NETWORK_IO, "By", "counter"),
    (m::SYSTEM_NETWORK_PACKET_COUNT, "{packet}", "counter"),
    (m::SYSTEM_NETWORK_PACKET_DROPPED, "{packet}", "counter"),
    (m::SYSTEM_PAGING_FAULTS, "{fault}", "counter"),
    (m::SYSTEM_PAGING_OPERATIONS, "{operation}", "counter"),
    (m::SYSTEM_PAGING_USAGE, "By", "updowncounter"),
    (m::SYSTEM_PROCESS_COUNT, "{process}", "updowncounter"),
    (m::SYSTEM_PROCESS_CREATED, "{process}", "counter"),
    (m::SYSTEM_UPTIME, "s", "gauge"),
];

const ATTRIBUTES: &[&str] = &[
    a::CONTAINER_ID,
    a::CPU_LOGICAL_NUMBER,
    a::CPU_MODE,
    a::DISK_IO_DIRECTION,
    a::ERROR_TYPE,
    a::HW_ID,
    a::HW_NAME,
    a::HW_PARENT,
    a::HW_STATE,
    a::HW_TYPE,
    a::NETWORK_CONNECTION_STATE,
    a::NETWORK_INTERFACE_NAME,
    a::NETWORK_IO_DIRECTION,
    a::NETWORK_TRANSPORT,
    a::NETWORK_TYPE,
    a::PROCESS_CONTEXT_SWITCH_TYPE,
    a::PROCESS_EXECUTABLE_NAME,
    a::PROCESS_PID,
    a::PROCESS_STATE,
    a::PROCESS_USER_ID,
    a::SYSTEM_DEVICE,
    a::SYSTEM_FILESYSTEM_MODE,
    a::SYSTEM_FILESYSTEM_MOUNTPOINT,
    a::SYSTEM_FILESYSTEM_STATE,
    a::SYSTEM_FILESYSTEM_TYPE,
    a::SYSTEM_MEMORY_LINUX_HUGEPAGES_STATE,
    a::SYSTEM_MEMORY_LINUX_SLAB_STATE,
    a::SYSTEM_MEMORY_STATE,
    a::SYSTEM_PAGING_DIRECTION,
    a::SYSTEM_PAGING_FAULT_TYPE,
    a::SYSTEM_PAGING_STATE,
];

/// Metrics of the Collector's hostmetrics receiver that the conventions do not have.
const OF_THE_RECEIVER: &[&str] = &[
    "system.cpu.load_average.1m",
    "system.cpu.load_average.5m",
    "system.cpu.load_average.15m",
    "system.disk.pending_operations",
    "system.disk.weighted_io_time",
    "system.filesystem.inodes.usage",
];

/// Prefixes of names that are proposed only.
const PROPOSED: &[&str] = &["system.linux.psi.", "system.psi."];

fn is_ours(name: &str) -> bool {
    PROPOSED.iter().chain(&["telepipe.", "linux."]).any(|prefix| name.starts_with(prefix))
}

#[test]
fn names_units_and_instruments_are_those_of_the_conventions() {
    let mut found = BTreeSet::new();
    for source in std::fs::read_dir("src/bin").unwrap() {
        let program = source.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        let output = Command::cargo_bin(&program).unwrap().args(["--generate", "schema"]).output().unwrap();
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (kind, of_kind) in schema["$defs"].as_object().unwrap() {
            let telemetry = &of_kind["x-opentelemetry"];
            let metrics = telemetry["metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
            for metric in metrics {
                let word = |field: &str| metric[field].as_str().unwrap();
                let name = word("name");
                match CONVENTIONS.iter().find(|(convention, ..)| *convention == name) {
                    Some(&(_, unit, instrument)) => {
                        assert_eq!((word("unit"), word("instrument")), (unit, instrument), "{kind}: {name}");
                        found.insert(name.to_owned());
                    }
                    None => assert!(is_ours(name) || OF_THE_RECEIVER.contains(&name), "{kind}: {name}"),
                }
                let own = metric["attributes"].as_object().into_iter().flat_map(|own| own.keys());
                let about = telemetry["attributes"].as_object().unwrap();
                let keys = own.map(String::as_str).chain(about.values().map(|key| key.as_str().unwrap()));
                for key in keys {
                    assert!(is_ours(key) || ATTRIBUTES.contains(&key), "{kind}: {name}: attribute {key}");
                }
            }
        }
    }
    let unused: Vec<_> = CONVENTIONS.iter().filter(|(name, ..)| !found.contains(*name)).collect();
    assert!(unused.is_empty(), "no record has {unused:?}");
}
