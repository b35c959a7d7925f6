//! The `paging` record: page faults, and traffic between memory and disks.

use super::prelude::*;

/// The body of a `paging` record, from /proc/vmstat (kernel `mm/vmstat.c`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Paging {
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// Page faults, minor and major.
    pub faults: Option<u64>,
    /// Page faults without I/O: `faults` minus `major_faults`.
    pub minor_faults: Option<u64>,
    /// Page faults that waited for I/O.
    pub major_faults: Option<u64>,
    /// Bytes read from block devices, including swap.
    pub page_in_bytes: Option<u64>,
    /// Bytes written to block devices, including swap.
    pub page_out_bytes: Option<u64>,
    /// Pages read from swap.
    pub swap_in_pages: Option<u64>,
    /// Pages written to swap.
    pub swap_out_pages: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Length of the interval of the rates, in seconds.
    pub interval_s: Option<f64>,
    /// Page faults per second.
    pub faults_per_s: Option<f64>,
    /// Major faults per second.
    pub major_faults_per_s: Option<f64>,
    /// Bytes read from block devices per second.
    pub page_in_bytes_per_s: Option<f64>,
    /// Bytes written to block devices per second.
    pub page_out_bytes_per_s: Option<f64>,
    /// Pages read from swap per second.
    pub swap_in_pages_per_s: Option<f64>,
    /// Pages written to swap per second.
    pub swap_out_pages_per_s: Option<f64>,
}

/// One per sample. `system.paging.operations` counts swap, which indicates a lack of memory;
/// `telepipe.paging.io` is all traffic of the page cache.
pub const PAGING: Kind =
    Kind::cumulative::<Paging>("paging", "Page faults, and pages read from and written to disks and swap")
        .metrics(&[
            Metric::counter("faults", "telepipe.paging.faults", "{fault}").prometheus("node_vmstat_pgfault"),
            Metric::counter("minor_faults", "system.paging.faults", "{fault}")
                .with(&[("system.paging.fault.type", "minor")]),
            Metric::counter("major_faults", "system.paging.faults", "{fault}")
                .with(&[("system.paging.fault.type", "major")])
                .prometheus("node_vmstat_pgmajfault"),
            Metric::counter("page_in_bytes", "telepipe.paging.io", "By")
                .with(&[("system.paging.direction", "in")])
                .prometheus_times("node_vmstat_pgpgin", 1.0 / 1024.0),
            Metric::counter("page_out_bytes", "telepipe.paging.io", "By")
                .with(&[("system.paging.direction", "out")])
                .prometheus_times("node_vmstat_pgpgout", 1.0 / 1024.0),
            Metric::counter("swap_in_pages", "system.paging.operations", "{operation}")
                .with(&[("system.paging.direction", "in"), ("system.paging.fault.type", "major")])
                .prometheus("node_vmstat_pswpin"),
            Metric::counter("swap_out_pages", "system.paging.operations", "{operation}")
                .with(&[("system.paging.direction", "out"), ("system.paging.fault.type", "major")])
                .prometheus("node_vmstat_pswpout"),
            Metric::counter("oom_kills", "telepipe.paging.oom_kills", "{process}")
                .prometheus("node_vmstat_oom_kill"),
        ]);
