//! The `cpu` record: CPU time by mode.

use super::prelude::*;

/// The body of a `cpu` record: the time of all CPUs together, or of one.
///
/// The eight modes `user` to `steal` are disjoint: their ratios add up to 1. `guest`
/// and `guest_nice` are parts of `user` and `nice`. Source: /proc/stat (kernel
/// `fs/proc/stat.c`). There are no ratios of all CPUs over an interval in which a CPU
/// went offline or came back, because the kernel's total jumps then.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Cpu {
    /// The number of the CPU; absent in the record of all CPUs together.
    pub cpu: Option<u32>,
    /// True in the record of all CPUs together if each CPU has a record too (`--per-cpu`).
    pub per_cpu: Option<bool>,
    /// The number of CPUs online, in the record of all CPUs together.
    pub logical_cpus: Option<u32>,
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// Seconds in user mode, including guests.
    pub user_s: Option<f64>,
    /// Seconds in user mode at low priority (nice above 0), including such guests.
    pub nice_s: Option<f64>,
    /// Seconds in the kernel, without interrupts.
    pub system_s: Option<f64>,
    /// Seconds idle without pending I/O.
    pub idle_s: Option<f64>,
    /// Seconds idle while a task of this CPU waited for I/O. It can go back, and says little on many CPUs.
    pub iowait_s: Option<f64>,
    /// Seconds in hardware interrupts.
    pub irq_s: Option<f64>,
    /// Seconds in soft interrupts.
    pub softirq_s: Option<f64>,
    /// Seconds in which the hypervisor ran something else although this CPU had work.
    pub steal_s: Option<f64>,
    /// Seconds of `user_s` spent running guests.
    pub guest_s: Option<f64>,
    /// Seconds of `nice_s` spent running guests.
    pub guest_nice_s: Option<f64>,
    /// Length of the interval of the ratios, in seconds.
    pub interval_s: Option<f64>,
    /// The part of the interval not idle: 1 minus `idle_ratio` and `iowait_ratio`.
    pub utilization_ratio: Option<f64>,
    /// The part of the interval in user mode, including guests.
    pub user_ratio: Option<f64>,
    /// The part of the interval in user mode at low priority.
    pub nice_ratio: Option<f64>,
    /// The part of the interval in the kernel.
    pub system_ratio: Option<f64>,
    /// The part of the interval idle without pending I/O.
    pub idle_ratio: Option<f64>,
    /// The part of the interval idle with pending I/O.
    pub iowait_ratio: Option<f64>,
    /// The part of the interval in hardware interrupts.
    pub irq_ratio: Option<f64>,
    /// The part of the interval in soft interrupts.
    pub softirq_ratio: Option<f64>,
    /// The part of the interval stolen by the hypervisor.
    pub steal_ratio: Option<f64>,
    /// The part of the interval running guests; `user_ratio` includes it.
    pub guest_ratio: Option<f64>,
    /// The part of the interval running guests at low priority; `nice_ratio` includes it.
    pub guest_nice_ratio: Option<f64>,
}

/// A counter with its mode, as an attribute and as node_exporter's label.
const fn time(field: &'static str, mode: Pairs, label: Pairs) -> Metric {
    let metric = Metric::counter(field, "system.cpu.time", "s").with(mode);
    metric.prometheus("node_cpu_seconds_total").prometheus_labels(label)
}

const fn guest(field: &'static str, mode: Pairs, label: Pairs) -> Metric {
    let metric = Metric::counter(field, "telepipe.cpu.guest.time", "s").with(mode);
    metric.prometheus("node_cpu_guest_seconds_total").prometheus_labels(label)
}

const fn ratio(field: &'static str, mode: Pairs) -> Metric {
    Metric::gauge(field, "system.cpu.utilization", "1").with(mode)
}

/// One per sample for all CPUs, and with `--per-cpu` one for each. The mode `softirq` is
/// that of the Collector's hostmetrics receiver. The metrics of the total have no
/// `cpu.logical_number`, and are left out if each CPU has its own.
pub const CPU: Kind = Kind::cumulative::<Cpu>("cpu", "CPU time by mode, of all CPUs together or of one")
    .about(&[("cpu", "cpu.logical_number")])
    .labels(&[("cpu", "cpu")])
    .total_if("per_cpu")
    .metrics(&[
        time("user_s", &[("cpu.mode", "user")], &[("mode", "user")]),
        time("nice_s", &[("cpu.mode", "nice")], &[("mode", "nice")]),
        time("system_s", &[("cpu.mode", "system")], &[("mode", "system")]),
        time("idle_s", &[("cpu.mode", "idle")], &[("mode", "idle")]),
        time("iowait_s", &[("cpu.mode", "iowait")], &[("mode", "iowait")]),
        time("irq_s", &[("cpu.mode", "interrupt")], &[("mode", "irq")]),
        time("softirq_s", &[("cpu.mode", "softirq")], &[("mode", "softirq")]),
        time("steal_s", &[("cpu.mode", "steal")], &[("mode", "steal")]),
        guest("guest_s", &[("cpu.mode", "user")], &[("mode", "user")]),
        guest("guest_nice_s", &[("cpu.mode", "nice")], &[("mode", "nice")]),
        ratio("user_ratio", &[("cpu.mode", "user")]),
        ratio("nice_ratio", &[("cpu.mode", "nice")]),
        ratio("system_ratio", &[("cpu.mode", "system")]),
        ratio("idle_ratio", &[("cpu.mode", "idle")]),
        ratio("iowait_ratio", &[("cpu.mode", "iowait")]),
        ratio("irq_ratio", &[("cpu.mode", "interrupt")]),
        ratio("softirq_ratio", &[("cpu.mode", "softirq")]),
        ratio("steal_ratio", &[("cpu.mode", "steal")]),
        Metric::updown("logical_cpus", "system.cpu.logical.count", "{cpu}"),
    ]);
