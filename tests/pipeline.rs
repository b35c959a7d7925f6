//! Whole pipelines into a real OpenTelemetry Collector: it stores what the programs wrote.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::stored::{Points, events, expected, points};
use support::{Collector, poll, program, records};
use telepipe::record::{Mapping, kind};
use tempfile::TempDir;

/// `PRODUCER | tee FILE | tele-ship --otlp` in a shell.
struct Pipeline {
    child: Child,
    dir: TempDir,
}

impl Pipeline {
    fn start(producer: &str, collector: &Collector, options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("{producer} | tee \"$LINES\" | tele-ship --otlp \"$URL\" {options}");
        let bin = program!("tele-ship").parent().map(Path::display).unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["-o", "pipefail", "-c", &line])
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
            .envs([("URL", collector.http_url()), ("NO_PROXY", "127.0.0.1".into())])
            .env("LINES", dir.path().join("lines"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// Waits for its successful end and returns the records.
    fn records(mut self) -> Vec<Value> {
        let status = poll(Duration::from_secs(60), || self.child.try_wait().unwrap());
        if status.is_none() {
            let _ = self.child.kill();
        }
        assert!(status.expect("the pipeline ends").success(), "{status:?}");
        records::parse(&std::fs::read(self.dir.path().join("lines")).unwrap())
    }
}

/// Checks that every field that is a metric is stored as a point, each at most `most` times, and every other record as a
/// log record, and that nothing else is stored. Returns the number of points.
fn assert_stored(records: &[Value], stored: &[Value], most: usize) -> usize {
    let all = points(stored);
    let mut count = 0;
    for (name, expected) in records.iter().flat_map(expected) {
        let found = all.get(&name).unwrap_or_else(|| panic!("{name:?} is not stored"));
        assert!((1..=most).contains(&found.len()), "{name:?} is stored {} times", found.len());
        for point in found {
            // The last digit of a double may differ where a factor was applied.
            let same = match (&expected.value, &point.value) {
                (Value::Number(a), Value::Number(b)) if a.is_f64() => {
                    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                    (a - b).abs() <= a.abs() * 1e-15
                }
                (a, b) => a == b,
            };
            assert!(same, "{name:?}: {} became {}", expected.value, point.value);
            let rest = |point: &support::stored::Point| support::stored::Point {
                value: Value::Null,
                ..point.clone()
            };
            assert_eq!(rest(&expected), rest(point), "{name:?}");
        }
        count += 1;
    }
    assert_eq!(all.len(), count, "there are points without a record");
    let names: BTreeSet<_> = records.iter().filter_map(|record| record["kind"].as_str()).collect();
    for name in names {
        if matches!(kind(name).unwrap().mapping, Mapping::Log { .. }) {
            let lines = records.iter().filter(|record| record["kind"] == name).count();
            assert!((lines..=lines * most).contains(&events(stored, name)), "{name}");
        }
    }
    count
}

/// The integer values of the points of a metric that have all of these attributes.
fn integers(all: &Points, metric: &str, unit: &str, with: &[&str]) -> Vec<i64> {
    let fits = |attributes: &[String]| with.iter().all(|pair| attributes.iter().any(|own| own == pair));
    let of = all.iter().filter(|(name, _)| name.metric == metric && fits(&name.attributes));
    let mut values: Vec<_> = of
        .flat_map(|(_, points)| points)
        .map(|point| {
            assert_eq!(point.unit, unit, "{metric}");
            point
                .value
                .as_i64()
                .unwrap_or_else(|| panic!("{metric} {with:?} is {}, not an integer", point.value))
        })
        .collect();
    values.sort_unstable();
    values
}

fn field(records: &[Value], kind: &str, field: &str) -> Vec<i64> {
    let of = records.iter().filter(|record| record["kind"] == kind);
    let mut values: Vec<_> = of.filter_map(|record| record[field].as_i64()).collect();
    values.sort_unstable();
    values
}

#[test]
fn scrape_arrives_complete_with_semantic_convention_names() {
    let Some(collector) = Collector::start() else { return };
    let pipeline = Pipeline::start("scrape --per-cpu -n 5 -i 200ms", &collector, "--batch-age 300ms");
    let records = pipeline.records();
    let stored = collector.stop();
    let count = assert_stored(&records, &stored, 1);
    assert!(count > 200, "only {count} points");

    // The names, units and attributes of the semantic conventions, written out here as an oracle.
    let all = points(&stored);
    for (kind, own, metric, unit, with) in [
        ("memory", "cached_bytes", "system.memory.usage", "By", &["system.memory.state=cached"][..]),
        ("memory", "free_bytes", "system.memory.usage", "By", &["system.memory.state=free"]),
        ("paging", "major_faults", "system.paging.faults", "{fault}", &["system.paging.fault.type=major"]),
        ("disk", "read_bytes", "system.disk.io", "By", &["disk.io.direction=read"]),
        ("disk", "writes", "system.disk.operations", "{operation}", &["disk.io.direction=write"]),
        ("netdev", "rx_bytes", "system.network.io", "By", &["network.io.direction=receive"]),
        (
            "netdev",
            "tx_packets",
            "system.network.packet.count",
            "{packet}",
            &["network.io.direction=transmit"],
        ),
    ] {
        let lines = field(&records, kind, own);
        assert!(!lines.is_empty(), "{kind}.{own}");
        assert_eq!(integers(&all, metric, unit, with), lines, "{metric} {with:?} of {kind}.{own}");
    }
    let boot = std::fs::read_to_string("/proc/stat").unwrap();
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
    let counters = all.iter().filter(|(name, _)| name.metric == "system.cpu.time");
    let starts: Vec<_> = counters.flat_map(|(_, points)| points).map(|point| point.start).collect();
    assert!(!starts.is_empty() && starts.iter().all(|start| *start == boot * 1_000_000_000), "{starts:?}");
}

/// Reads a file with direct I/O: 128 requests to the disk.
fn read_directly(file: &Path) {
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", file.display())).args(["of=/dev/null", "bs=64k", "iflag=direct"]);
    assert!(dd.stderr(Stdio::null()).status().unwrap().success());
}

#[test]
fn iolat_arrives_complete_bucket_by_bucket() {
    if !support::require_root() {
        return;
    }
    let Some(collector) = Collector::start() else { return };
    // On a disk: the temporary directory can be in memory.
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut pipeline = Pipeline::start("iolat -i 500ms --duration 3s --events --min 1us", &collector, "");
    let file = work.path().join("data");
    std::fs::write(&file, vec![7; 8 << 20]).unwrap();
    while pipeline.child.try_wait().unwrap().is_none() {
        read_directly(&file);
    }
    let records = pipeline.records();
    let stored = collector.stop();
    let count = assert_stored(&records, &stored, 1);

    let all = points(&stored);
    let reads =
        |name: &&support::stored::Name| name.attributes.iter().any(|pair| pair == "disk.io.direction=read");
    let total = all.keys().filter(reads).filter(|name| name.metric == "linux.block.duration");
    assert!(total.count() >= 3 && count > 15, "{count} points");
    let histogram = |points: &Vec<support::stored::Point>| points[0].shape == "exponentialHistogram";
    assert!(all.values().filter(|points| histogram(points)).all(|points| points[0].unit == "ns"));
    assert!(events(&stored, "io_event") > 100);
}

#[test]
fn hostmetrics_names_are_those_of_the_receiver() {
    let Some(collector) = Collector::start() else { return };
    let records = Pipeline::start("scrape --once", &collector, "--names hostmetrics").records();
    let all = points(&collector.stop());
    for (kind, own, metric, unit, with) in [
        ("memory", "cached_bytes", "system.memory.usage", "By", &["state=cached"][..]),
        ("disk", "read_bytes", "system.disk.io", "By", &["direction=read"]),
        ("netdev", "rx_bytes", "system.network.io", "By", &["direction=receive"]),
    ] {
        assert_eq!(integers(&all, metric, unit, with), field(&records, kind, own), "{metric} {with:?}");
    }
}

#[test]
fn a_collector_that_is_down_for_twenty_seconds_gets_everything() {
    let Some(mut collector) = Collector::start() else { return };
    let pipeline = Pipeline::start("scrape -i 500ms --duration 24s", &collector, "--batch-age 500ms");
    std::thread::sleep(Duration::from_secs(2));
    collector.down();
    std::thread::sleep(Duration::from_secs(20));
    collector.up();
    let records = pipeline.records();
    let stored = collector.stop();
    // A request whose answer was lost is sent again.
    let count = assert_stored(&records, &stored, 2);
    assert!(count > 2000, "only {count} points");
}
