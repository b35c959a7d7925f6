//! Reads /proc/net/dev into `netdev` records.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::collect::slots::{Slot, Slots};
use crate::collect::text::{lines, number, words};
use crate::collect::{Collector, Roots, Sample, Source, micro, rate};
use crate::common::emit::Emitter;
use crate::record::{Kind, NETDEV, Netdev};

/// Reads one file for all interfaces, and sysfs only when an interface appears or goes.
pub struct NetdevCollector {
    source: Source,
    /// The directory of interfaces in sysfs.
    class: PathBuf,
    slots: Slots<Interface>,
    /// The number of interfaces in the previous sample.
    count: usize,
}

/// The state of one interface.
#[derive(Default)]
struct Interface {
    role: Option<Role>,
    before: Option<Counts>,
    now: Counts,
}

/// The counts in the order of the file: eight received, eight sent.
type Counts = [u64; 16];
const RX_BYTES: usize = 0;
const TX_BYTES: usize = 8;
const RX_PACKETS: usize = 1;
const TX_PACKETS: usize = 9;
const RX_ERRORS: usize = 2;
const TX_ERRORS: usize = 10;
const RX_DROPPED: usize = 3;
const TX_DROPPED: usize = 11;

/// The number of header lines.
const HEADERS: usize = 2;

/// How an interface relates to the traffic of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It has a device, real or provided by a hypervisor.
    Device,
    /// It has no device: one end of a veth pair, a tunnel, a dummy.
    Virtual,
    /// Its traffic stays on the machine (loopback), or its lower interfaces count it too.
    Inner,
}

impl NetdevCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        let source = Source::new(roots.proc.join("net/dev"));
        Self { source, class: roots.sys.join("class/net"), slots: Slots::new(), count: 0 }
    }
}

impl Collector for NetdevCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&NETDEV]
    }

    fn method(&self) -> String {
        format!(
            "{}; which interfaces are virtual from {}",
            self.source.path().display(),
            self.class.display()
        )
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Some(text) = self.source.read_or_report(sample.ts, out)? else {
            self.slots.miss();
            return Ok(());
        };
        let interval = self.slots.begin(sample);
        let (changed, malformed) = update(&mut self.slots, text);
        let count = self.slots.iter_mut().count();
        if changed || count != self.count {
            self.count = count;
            self.slots.iter_mut().for_each(|slot| slot.data.role = role(&self.class, &slot.name));
        }
        let any_device = self.slots.iter_mut().any(|slot| slot.data.role == Some(Role::Device));
        for slot in self.slots.iter_mut() {
            let record = measure(slot, any_device, interval, sample);
            sample.emit(&record, out)?;
        }
        if malformed {
            self.source.report_invalid(sample.ts, out, "a name and sixteen counts on every line")?;
        }
        Ok(())
    }
}

/// Stores the new counts. Returns whether an interface is new, and whether a line was malformed.
fn update(slots: &mut Slots<Interface>, text: &[u8]) -> (bool, bool) {
    let (mut changed, mut malformed) = (false, false);
    for line in lines(text).skip(HEADERS) {
        let Some((name, counts)) = parse(line) else {
            malformed = true;
            continue;
        };
        let slot = slots.slot(name, 0, |_| Interface::default());
        slot.data.now = counts;
        let went_back =
            |before: Counts| counts[RX_BYTES] < before[RX_BYTES] || counts[TX_BYTES] < before[TX_BYTES];
        if slot.data.before.is_some_and(went_back) {
            slot.restart();
            slot.data.before = None;
        }
        changed |= slot.data.before.is_none();
    }
    slots.end();
    (changed, malformed)
}

/// Parses `NAME:` and the counts. Old kernels print no blank after the colon.
fn parse(line: &[u8]) -> Option<(&[u8], Counts)> {
    let colon = line.iter().rposition(|&byte| byte == b':')?;
    let name = line[..colon].trim_ascii_start();
    let mut counts = Counts::default();
    let mut values = words(&line[colon + 1..]);
    for count in &mut counts {
        *count = number(values.next()?)?;
    }
    (!name.is_empty()).then_some((name, counts))
}

fn role(class: &Path, name: &str) -> Option<Role> {
    let dir = class.join(name);
    let is_lower = |entry: fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"lower_");
    if fs::read_dir(&dir).ok()?.flatten().any(is_lower) || name == "lo" {
        return Some(Role::Inner);
    }
    Some(if dir.join("device").exists() { Role::Device } else { Role::Virtual })
}

/// Makes the record of one interface, and keeps its counts for the next sample.
fn measure<'a>(
    slot: &'a mut Slot<Interface>,
    any_device: bool,
    interval: Option<Duration>,
    sample: &Sample<'_>,
) -> Netdev<'a> {
    let now = slot.data.now;
    let before = slot.data.before.replace(now);
    let per_s = |index: usize| rate(Some(now[index]), before.map(|before| before[index]), interval);
    let whole = slot.data.role.map(|role| match role {
        Role::Device => true,
        Role::Virtual => !any_device,
        Role::Inner => false,
    });
    let count = |index: usize| Some(now[index]);
    Netdev {
        interface: &slot.name,
        whole,
        start_ts: slot.since.or(sample.boot),
        rx_bytes: count(RX_BYTES),
        rx_packets: count(RX_PACKETS),
        rx_errors: count(RX_ERRORS),
        rx_dropped: count(RX_DROPPED),
        rx_fifo_errors: count(4),
        rx_frame_errors: count(5),
        rx_compressed: count(6),
        rx_multicast: count(7),
        tx_bytes: count(TX_BYTES),
        tx_packets: count(TX_PACKETS),
        tx_errors: count(TX_ERRORS),
        tx_dropped: count(TX_DROPPED),
        tx_fifo_errors: count(12),
        tx_collisions: count(13),
        tx_carrier_errors: count(14),
        tx_compressed: count(15),
        interval_s: before.and(interval).map(|interval| micro(interval.as_secs_f64())),
        rx_bytes_per_s: per_s(RX_BYTES),
        tx_bytes_per_s: per_s(TX_BYTES),
        rx_packets_per_s: per_s(RX_PACKETS),
        tx_packets_per_s: per_s(TX_PACKETS),
        rx_errors_per_s: per_s(RX_ERRORS),
        tx_errors_per_s: per_s(TX_ERRORS),
        rx_dropped_per_s: per_s(RX_DROPPED),
        tx_dropped_per_s: per_s(TX_DROPPED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const HEAD: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n";

    /// The records of a sample at that second; the interval is always two seconds.
    fn sample(slots: &mut Slots<Interface>, second: u64, rows: &str) -> Vec<Value> {
        let sample = Sample {
            ts: Timestamp::from_secs(second),
            boot: Some(Timestamp::from_secs(1)),
            interval: Some(Duration::from_secs(2)),
            write: true,
            inventory: false,
            wanted: &|_| true,
        };
        let interval = slots.begin(&sample);
        assert!(!update(slots, format!("{HEAD}{rows}").as_bytes()).1);
        let to_value = |slot| serde_json::to_value(measure(slot, true, interval, &sample)).unwrap();
        slots.iter_mut().map(to_value).collect()
    }

    #[test]
    fn all_sixteen() {
        let records = sample(&mut Slots::new(), 9, "  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        let expected = json!({
            "interface": "eth0", "start_ts": "1970-01-01T00:00:01.000000000Z",
            "rx_bytes": 1, "rx_packets": 2, "rx_errors": 3, "rx_dropped": 4,
            "rx_fifo_errors": 5, "rx_frame_errors": 6, "rx_compressed": 7, "rx_multicast": 8,
            "tx_bytes": 9, "tx_packets": 10, "tx_errors": 11, "tx_dropped": 12,
            "tx_fifo_errors": 13, "tx_collisions": 14, "tx_carrier_errors": 15, "tx_compressed": 16,
        });
        assert_eq!(records, [expected]);
    }

    #[test]
    fn rates_and_interfaces_that_come_and_go() {
        // The packets, errors and drops are fractions of the bytes.
        let row = |name: &str, rx: u64, tx: u64| {
            let half = |bytes: u64| format!("{bytes} {} {} {} 0 0 0 0", bytes / 2, bytes / 4, bytes / 8);
            format!("{name}: {} {}\n", half(rx), half(tx))
        };
        let mut slots = Slots::new();
        sample(&mut slots, 10, &[row("lo", 10, 10), row("eth0", 1000, 50)].concat());
        let records = sample(&mut slots, 12, &[row("eth0", 5000, 51), row("veth1", 7, 7)].concat());
        assert_eq!(records.len(), 2);
        assert_eq!(
            (&records[0]["rx_bytes_per_s"], &records[0]["tx_bytes_per_s"]),
            (&json!(2000.0), &json!(0.5))
        );
        assert_eq!(records[0]["interval_s"], 2.0);
        for (field, expected) in [("packets", 1000.0), ("errors", 500.0), ("dropped", 250.0)] {
            assert_eq!(records[0][format!("rx_{field}_per_s")], expected, "{field}");
            assert_eq!(records[0][format!("tx_{field}_per_s")], 0.0, "{field}");
        }
        assert_eq!(records[1]["start_ts"], "1970-01-01T00:00:10.000000000Z");
        assert_eq!(records[1].get("interval_s"), None);
        let records = sample(&mut slots, 14, &[row("eth0", 4000, 99), row("veth1", 9, 7)].concat());
        assert_eq!(records[0].get("rx_bytes_per_s"), None);
        assert_eq!(records[0]["start_ts"], "1970-01-01T00:00:12.000000000Z");
        assert_eq!(records[1]["rx_bytes_per_s"], 1.0);
    }

    #[test]
    fn malformed_lines() {
        for malformed in
            [&b""[..], b"eth0", b"eth0:", b"eth0: 1 2 3", b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"]
        {
            assert!(parse(malformed).is_none());
        }
        let mut slots = Slots::new();
        let text = format!("{HEAD}eth0: 1 2\n eth1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        assert_eq!(update(&mut slots, text.as_bytes()), (true, true));
        assert_eq!(slots.iter_mut().map(|slot| slot.name.clone()).collect::<Vec<_>>(), ["eth1"]);
    }

    #[test]
    fn roles() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(dir.path().join(path)).unwrap();
        ["eth0/device", "br0/lower_eth0", "lo", "tun0", "lan1/device", "lan1/lower_eth0"]
            .into_iter()
            .for_each(make);
        for (name, expected) in [
            ("eth0", Some(Role::Device)),
            ("br0", Some(Role::Inner)),
            ("lan1", Some(Role::Inner)),
            ("lo", Some(Role::Inner)),
            ("tun0", Some(Role::Virtual)),
            ("gone", None),
        ] {
            assert_eq!(role(dir.path(), name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn a_line_of_the_kernel_is_parsed(name in "[a-z0-9.@_-]{1,15}", counts: Counts) {
            let values = counts.map(|count| format!("{count:7}")).join(" ");
            let line = format!("{name:>6}: {values}");
            prop_assert_eq!(parse(line.as_bytes()), Some((name.as_bytes(), counts)));
        }
    }
}
