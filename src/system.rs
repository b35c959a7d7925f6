//! The `/system` object: the latest records of one host in the shape that clients of a system-stats service read.
//!
//! Sizes are in bytes, percentages from 0 to 100, times in Unix seconds. What is not known is null. The numbers of
//! memory, swap, disks and network are defined as in psutil, which such services use.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Map, Number, Value as Json, json};

use crate::common::time::Timestamp;
use crate::ship::line::{Line, Value};

/// `/proc/vmstat` counts swapping in pages; psutil takes them as 4 KiB.
const PAGE: u64 = 4096;

/// The latest records of one host.
#[derive(Clone, Debug)]
pub struct System {
    disk_path: String,
    collected_at: Option<Timestamp>,
    host: Fields,
    cpu: Fields,
    memory: Fields,
    paging: Fields,
    filesystem: Fields,
    frequencies: Latest,
    disks: Latest,
    netdevs: Latest,
    /// By name. An interface is only written when it changes.
    interfaces: BTreeMap<String, Fields>,
    /// The answer of another system-stats service, as `scrape --url` reads it.
    snapshot: Option<Json>,
}

/// Fields of a record.
type Fields = Map<String, Json>;

/// The records of one kind that have the latest time.
#[derive(Clone, Debug, Default)]
struct Latest {
    ts: Option<Timestamp>,
    records: Vec<Fields>,
}

impl Latest {
    fn take(&mut self, ts: Timestamp, record: Fields) {
        if self.ts.is_none_or(|latest| latest < ts) {
            self.ts = Some(ts);
            self.records.clear();
        }
        if self.ts == Some(ts) {
            self.records.push(record);
        }
    }

    fn values<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Json> {
        self.records.iter().filter_map(move |record| record.get(field))
    }

    /// The sum of a field; null if no record has it.
    fn sum(&self, field: &str) -> Json {
        let sum = self.values(field).filter_map(Json::as_u64).reduce(u64::wrapping_add);
        sum.map_or(Json::Null, Json::from)
    }

    fn sum_f64(&self, field: &str) -> Option<f64> {
        self.values(field).filter_map(Json::as_f64).reduce(|a, b| a + b)
    }

    /// The sum of a field in seconds, as whole milliseconds.
    fn millis(&self, field: &str) -> Json {
        self.sum_f64(field).map_or(Json::Null, |secs| Json::from((secs * 1000.0).round() as u64))
    }
}

impl System {
    /// A host of which nothing is known. `disk` describes the file system that is mounted at `disk_path`.
    pub fn new(disk_path: &str) -> Self {
        Self {
            disk_path: disk_path.to_owned(),
            collected_at: None,
            host: Map::new(),
            cpu: Map::new(),
            memory: Map::new(),
            paging: Map::new(),
            filesystem: Map::new(),
            frequencies: Latest::default(),
            disks: Latest::default(),
            netdevs: Latest::default(),
            interfaces: BTreeMap::new(),
            snapshot: None,
        }
    }

    /// Takes a record of this host. Returns whether it is one of those that the object shows.
    pub fn take(&mut self, line: &Line<'_>) -> bool {
        let (Some(kind), Some(ts)) = (line.kind(), line.ts()) else { return false };
        let whole = || matches!(line.get("whole"), Some(Value::Bool(true)));
        match kind {
            "host" => self.host = fields(line),
            "cpu" if line.get("cpu").is_none() => self.cpu = fields(line),
            "memory" => self.memory = fields(line),
            "paging" => self.paging = fields(line),
            // The last one mounted there hides the others.
            "filesystem" if line.str("mountpoint") == Some(&self.disk_path) => self.filesystem = fields(line),
            "cpu_power" if line.get("frequency_hz").is_some() => self.frequencies.take(ts, fields(line)),
            "disk" if whole() => self.disks.take(ts, fields(line)),
            "netdev" => self.netdevs.take(ts, fields(line)),
            "interface" => {
                let name = line.str("interface").unwrap_or_default().to_owned();
                self.interfaces.insert(name, fields(line));
            }
            "snapshot" => self.snapshot = line.get("data").map(json_of),
            _ => return false,
        }
        self.collected_at = self.collected_at.max(Some(ts));
        true
    }

    /// The object. An answer of another system-stats service is returned as it came.
    pub fn object(&self) -> Json {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        json!({
            "collected_at": self.collected_at,
            "cpu": self.cpu(),
            "memory": self.memory(),
            "swap": self.swap(),
            "disk": self.disk(),
            "disk_io": self.disk_io(),
            "network": { "io_counters": self.network(), "primary_interface": self.primary_interface() },
            "uptime": self.uptime(),
            "system": self.system(),
            "throughput": self.throughput(),
        })
    }

    fn cpu(&self) -> Json {
        let frequency = self.frequencies.sum_f64("frequency_hz");
        let mean = frequency.map(|sum| sum / self.frequencies.records.len() as f64);
        json!({
            "percent": percent(self.cpu.get("utilization_ratio").and_then(Json::as_f64)),
            "logical_cores": get(&self.cpu, "logical_cpus").or_else(|| get(&self.host, "logical_cpus")),
            "physical_cores": get(&self.host, "physical_cores"),
            "frequency_mhz": mean.map(megahertz),
            "min_frequency_mhz": number(&self.host, "frequency_min_hz").map(megahertz),
            "max_frequency_mhz": number(&self.host, "frequency_max_hz").map(megahertz),
            "processor": get(&self.host, "processor"),
        })
    }

    fn memory(&self) -> Json {
        let memory = &self.memory;
        let (total, available) = (integer(memory, "total_bytes"), integer(memory, "available_bytes"));
        let used = total.zip(available).map(|(total, available)| total.saturating_sub(available));
        // As in psutil and free(1): memory that the kernel can take back at once is part of the cache.
        let cached = integer(memory, "cached_bytes")
            .map(|cached| cached + integer(memory, "slab_reclaimable_bytes").unwrap_or(0));
        json!({
            "total": total,
            "available": available,
            "percent": percent(ratio(used, total)),
            "used": used,
            "free": integer(memory, "free_bytes"),
            "active": integer(memory, "active_bytes"),
            "inactive": integer(memory, "inactive_bytes"),
            "buffers": integer(memory, "buffers_bytes"),
            "cached": cached,
            "shared": integer(memory, "shared_bytes"),
            "slab": integer(memory, "slab_bytes"),
        })
    }

    fn swap(&self) -> Json {
        let (total, used) =
            (integer(&self.memory, "swap_total_bytes"), integer(&self.memory, "swap_used_bytes"));
        let bytes = |field| integer(&self.paging, field).map(|pages| pages * PAGE);
        let none = total == Some(0);
        json!({
            "total": total,
            "used": used,
            "free": integer(&self.memory, "swap_free_bytes"),
            "percent": if none { Some(0.0) } else { percent(ratio(used, total)) },
            "sin": bytes("swap_in_pages"),
            "sout": bytes("swap_out_pages"),
        })
    }

    fn disk(&self) -> Json {
        let disk = &self.filesystem;
        let used = integer(disk, "used_bytes");
        // What is reserved for root counts as neither used nor free, as in df(1).
        let free = integer(disk, "available_bytes");
        json!({
            "total": integer(disk, "total_bytes"),
            "used": used,
            "free": free,
            "percent": percent(ratio(used, used.zip(free).map(|(used, free)| used + free))),
            "mount": self.disk_path,
        })
    }

    fn disk_io(&self) -> Json {
        let disks = &self.disks;
        json!({
            "read_count": disks.sum("reads"),
            "write_count": disks.sum("writes"),
            "read_bytes": disks.sum("read_bytes"),
            "write_bytes": disks.sum("write_bytes"),
            "read_time": disks.millis("read_time_s"),
            "write_time": disks.millis("write_time_s"),
        })
    }

    fn network(&self) -> Json {
        let net = &self.netdevs;
        json!({
            "bytes_sent": net.sum("tx_bytes"),
            "bytes_recv": net.sum("rx_bytes"),
            "packets_sent": net.sum("tx_packets"),
            "packets_recv": net.sum("rx_packets"),
            "errin": net.sum("rx_errors"),
            "errout": net.sum("tx_errors"),
            "dropin": net.sum("rx_dropped"),
            "dropout": net.sum("tx_dropped"),
        })
    }

    /// The interface with the default route; without one, the first that has an address and is not the loopback.
    fn primary_interface(&self) -> Json {
        let is_default = |found: &&Fields| found.get("default_route") == Some(&Json::Bool(true));
        let has_address = |found: &&Fields| {
            found.get("interface").and_then(Json::as_str) != Some("lo") && first(found, "ipv4").is_some()
        };
        let mut all = self.interfaces.values();
        let Some(interface) = all.clone().find(is_default).or_else(|| all.find(has_address)) else {
            return Json::Null;
        };
        let network = first(interface, "ipv4").and_then(|address| {
            let (ip, length) = address.split_once('/')?;
            let (ip, length): (Ipv4Addr, u32) = (ip.parse().ok()?, length.parse().ok()?);
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            Some((ip, Ipv4Addr::from_bits(!host), Ipv4Addr::from_bits(ip.to_bits() | host), length))
        });
        let ipv6 = first(interface, "ipv6").and_then(|address| address.split('/').next());
        json!({
            "name": get(interface, "interface"),
            "ipv4": network.map(|(ip, ..)| ip.to_string()),
            "ipv6": ipv6,
            "netmask": network.map(|(_, mask, ..)| mask.to_string()),
            // A point-to-point link has none.
            "broadcast": network.filter(|(.., length)| *length < 31).map(|(_, _, all, _)| all.to_string()),
            "speed_mbps": integer(interface, "speed_bits_per_s").map(|speed| speed / 1_000_000),
            "mtu": integer(interface, "mtu_bytes"),
            "duplex": get(interface, "duplex"),
        })
    }

    fn uptime(&self) -> Json {
        let boot = get(&self.host, "boot_ts").and_then(|ts| ts.as_str()?.parse::<Timestamp>().ok());
        let boot = boot.map(|boot| boot.0 / 1_000_000_000);
        let now = self.collected_at.map(|ts| ts.0 / 1_000_000_000);
        let seconds = now.zip(boot).map(|(now, boot)| now.saturating_sub(boot));
        json!({ "seconds": seconds, "boot_time": boot, "human": seconds.map(human) })
    }

    fn system(&self) -> Json {
        let text = |field| self.host.get(field).and_then(Json::as_str);
        let (os, release, architecture) = (text("os"), text("release"), text("architecture"));
        let parts: Vec<_> = [os, release, architecture].into_iter().flatten().collect();
        json!({
            "hostname": text("hostname"),
            "os": os,
            "os_release": release,
            "os_version": text("version"),
            "architecture": architecture,
            "platform": (!parts.is_empty()).then(|| parts.join("-")),
            "model": text("model"),
        })
    }

    fn throughput(&self) -> Json {
        json!({
            "disk_read_bytes_per_sec": self.disks.sum_f64("read_bytes_per_s"),
            "disk_write_bytes_per_sec": self.disks.sum_f64("write_bytes_per_s"),
            "network_recv_bytes_per_sec": self.netdevs.sum_f64("rx_bytes_per_s"),
            "network_sent_bytes_per_sec": self.netdevs.sum_f64("tx_bytes_per_s"),
        })
    }
}

fn fields(line: &Line<'_>) -> Fields {
    line.fields.iter().map(|(name, value)| (name.to_string(), json_of(value))).collect()
}

fn json_of(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::I64(value) => Json::from(*value),
        Value::U64(value) => Json::from(*value),
        Value::Big(_) => value.as_f64().map_or(Json::Null, Json::from),
        Value::F64(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::Str(text) => Json::from(&**text),
        Value::Array(values) => values.iter().map(json_of).collect(),
        Value::Map(_) | Value::Counts(_) => {
            let fields = value.as_map().unwrap_or_default();
            Json::Object(fields.iter().map(|(name, value)| (name.to_string(), json_of(value))).collect())
        }
    }
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Json> {
    fields.get(name).filter(|value| !value.is_null())
}

fn integer(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name)?.as_u64()
}

fn number(fields: &Fields, name: &str) -> Option<f64> {
    fields.get(name)?.as_f64()
}

fn first<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_array()?.first()?.as_str()
}

fn ratio(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let (part, whole) = part.zip(whole)?;
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A ratio as a percentage with one decimal.
fn percent(ratio: Option<f64>) -> Option<f64> {
    ratio.map(|ratio| (ratio * 1000.0).round() / 10.0)
}

fn megahertz(hertz: f64) -> f64 {
    hertz / 1e6
}

/// `3 days, 4:05:06`.
fn human(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let time = format!("{hours}:{minutes:02}:{:02}", seconds % 60);
    match days {
        0 => time,
        1 => format!("1 day, {time}"),
        _ => format!("{days} days, {time}"),
    }
}
