//! Rows of clusters, CPUs, cores and packages.

use super::Text;
use super::Understood::{self, No, Partly, Yes};
use crate::collect::powermetrics::value::{
    Parsed, frequencies, frequency, nominal, number, numbered, percent, ratio_and, states, whole,
};
use crate::record::CpuPower;

impl Text {
    pub(super) fn of_cluster(&mut self, name: &str, what: &str, value: &[u8]) -> Understood {
        self.cluster = Some(name.to_owned());
        if what == "Power" {
            return self.power(name, value);
        }
        component(self.sample.cluster(name), what, value)
    }

    /// Rows of CPUs, and of Intel's cores and packages.
    pub(super) fn of_processor(&mut self, first: &str, name: &str, value: &[u8]) -> Understood {
        let rest = name[first.len()..].trim_start();
        if let Some((number, what)) = numbered(rest) {
            return match first {
                "CPU" | "cpu" => self.of_cpu(number, what, value),
                "Core" => component(self.sample.cpu("core", &format!("core{number}")), what, value),
                "Package" => component(self.sample.cpu("package", &format!("package{number}")), what, value),
                _ => No,
            };
        }
        match (first, rest) {
            ("CPU", "Average frequency as fraction of nominal") => {
                let Some(cpu) = self.cpu.clone() else { return No };
                component(self.sample.cpu("cpu", &cpu), rest, value)
            }
            ("System", _) => component(self.sample.cpu("system", "system"), rest, value),
            // What no record has: how much of the time both ran, and how many cores on the mean.
            ("CPU/GPU", "Overlap") => whole(percent, value).is_some().into(),
            ("Avg", "Num of Cores Active") => number(value).is_some().into(),
            ("Cores", "Active") => {
                set(&mut self.sample.cpu("system", "system").active_ratio, whole(percent, value))
            }
            ("LLC", "flushed residency") => {
                let ratio = whole(percent, value);
                self.sample.cpu("system", "system").llc_flushed_ratio = ratio;
                ratio.is_some().into()
            }
            ("Intel", _) => match rest.strip_prefix("energy model derived ") {
                Some(part) => self.of_energy_model(part, value),
                None => No,
            },
            _ => self.others(name, value).into(),
        }
    }

    /// `package power (CPUs+GT+SA)`: the processor's own, without that of memory.
    fn of_energy_model(&mut self, part: &str, value: &[u8]) -> Understood {
        let name = match part.split(" power").next() {
            Some("package") => "Package",
            Some("CPU core") => "CPU",
            Some("GT") => "GPU",
            Some("DRAM") => "DRAM",
            _ => return No,
        };
        self.sample.memory_apart = true;
        self.power(name, value)
    }

    fn of_cpu(&mut self, number: u64, what: &str, value: &[u8]) -> Understood {
        if what.is_empty() {
            // The heading of a CPU's interrupts.
            return value.is_empty().into();
        }
        let name = format!("cpu{number}");
        if what == "duty cycles/s" {
            self.cpu = Some(name);
            return value.starts_with(b"active/idle [").into();
        }
        self.last_of_cpu = true;
        let cluster = self.cluster.clone();
        let cpu = self.sample.cpu("cpu", &name);
        if cpu.cluster.is_none() {
            cpu.cluster = cluster;
        }
        let understood = component(cpu, what, value);
        self.cpu = Some(name);
        understood
    }
}

/// A row of a CPU, a core, a cluster or a package.
fn component(cpu: &mut CpuPower, what: &str, value: &[u8]) -> Understood {
    match what {
        "frequency" | "HW active frequency" | "active frequency" => {
            set(&mut cpu.frequency_hz, whole(frequency, value))
        }
        "active residency" | "HW active residency" => {
            listed(value, frequencies, &mut cpu.active_ratio, &mut cpu.residency)
        }
        "idle residency" => set(&mut cpu.idle_ratio, whole(percent, value)),
        "down residency" => set(&mut cpu.down_ratio, whole(percent, value)),
        "Online" => set(&mut cpu.online_ratio, whole(percent, value)),
        "instructions retired" => set(&mut cpu.instructions, number(value).filter(|count| *count >= 0.0)),
        "instructions per clock" => {
            set(&mut cpu.instructions_per_cycle, number(value).filter(|it| *it >= 0.0))
        }
        "C-state residency" => listed(value, states, &mut cpu.c_state_ratio, &mut cpu.c_state),
        "Average frequency as fraction of nominal" => match nominal(value) {
            Some((ratio, hz)) => {
                (cpu.nominal_ratio, cpu.frequency_hz) = (Some(ratio), Some(hz));
                Yes
            }
            None => No,
        },
        _ => No,
    }
}

/// Sets a field where there is a value.
pub(super) fn set<T>(field: &mut Option<T>, value: Option<T>) -> Understood {
    let understood = value.is_some();
    if understood {
        *field = value;
    }
    understood.into()
}

/// A ratio with its list.
pub(super) fn listed<'a, T>(
    value: &'a [u8],
    list: impl Fn(&'a [u8]) -> Parsed<'a, T>,
    ratio: &mut Option<f64>,
    parts: &mut Option<T>,
) -> Understood {
    let Some((found, list)) = ratio_and(value, list) else { return No };
    *ratio = Some(found);
    match list {
        Ok(list) => {
            *parts = list;
            Yes
        }
        Err(()) => Partly,
    }
}
