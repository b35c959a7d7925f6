//! The Prometheus exposition of records of every kind, checked with `promtool check metrics`.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use support::{in_ci, program, records, skip};
use telepipe::common::time::Timestamp;
use telepipe::exposition::{Exposition, Names, Options};
use telepipe::record::{KINDS, Kind, Mapping, Metric, body_schema, json_type, map_value};
use telepipe::ship::line::Line;

/// A value of the type that the schema declares.
fn value(property: &Value) -> Value {
    match json_type(property) {
        "integer" => json!(3),
        "number" => json!(0.5),
        "boolean" => json!(false),
        "array" => json!([]),
        "object" => match property["properties"].as_object() {
            Some(inner) => inner.iter().map(|(name, property)| (name.clone(), value(property))).collect(),
            None => json!({ "600": value(map_value(property).unwrap()) }),
        },
        _ => json!("x"),
    }
}

/// A record with all fields of its kind.
fn full_record(kind: &Kind) -> Value {
    let mut record = Map::new();
    let schema = body_schema(kind);
    for (name, property) in schema["properties"].as_object().unwrap() {
        record.insert(name.clone(), value(property));
    }
    let envelope = json!({ "ts": "2026-11-20T20:45:00Z", "kind": kind.name, "host": "h" });
    record.extend(envelope.as_object().unwrap().clone());
    record.remove("start_ts");
    record.into()
}

fn metrics() -> impl Iterator<Item = (&'static Kind, &'static Metric)> {
    let of = |kind: &&'static Kind| match kind.mapping {
        Mapping::Metrics { metrics, .. } => metrics.iter().map(|metric| (*kind, metric)).collect(),
        _ => vec![],
    };
    KINDS.iter().flat_map(of)
}

fn expose(records: &[Value], names: Names) -> String {
    let mut exposition = Exposition::new(Options { names, ..Options::default() });
    for record in records {
        let text = record.to_string();
        exposition.add(&Line::parse(text.as_bytes()).unwrap(), Timestamp(0)).unwrap();
    }
    assert_eq!((exposition.conflicts(), exposition.evicted()), (0, 0));
    let mut text = String::new();
    exposition.render(Timestamp(0), &mut text);
    text
}

/// The types of the families.
fn families(text: &str) -> BTreeMap<&str, &str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let all: Vec<_> = types.collect();
    let map: BTreeMap<_, _> = all.iter().copied().collect();
    assert_eq!(map.len(), all.len(), "a family occurs twice");
    map
}

/// The complaints of promtool; `None` without it. No series occurs twice, which it does not check.
fn complaints(text: &str) -> Option<Vec<String>> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = samples.map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert!(!series.is_empty());
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "a series occurs twice");
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(!in_ci(), "promtool is missing");
        skip("promtool is missing");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let report = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // 1: not an exposition. 3: complaints.
    assert_ne!(output.status.code(), Some(1), "{report}");
    Some(report.lines().map(str::to_owned).collect())
}

/// The established names that the declarations have, with `x` for the values of fields.
fn established() -> BTreeSet<String> {
    let name = |(_, metric): (&Kind, &'static Metric)| Some(metric.prometheus?.name);
    let replaced = |name: &str| {
        name.split(['{', '}']).enumerate().map(|(n, part)| if n % 2 == 1 { "x" } else { part }).collect()
    };
    metrics().filter_map(name).map(replaced).collect()
}

#[test]
fn every_metric_of_every_kind_is_exposed_without_a_complaint() {
    let records: Vec<_> = KINDS
        .iter()
        .filter(|kind| matches!(kind.mapping, Mapping::Metrics { .. }))
        .map(|kind| full_record(kind))
        .collect();
    let text = expose(&records, Names::OpenTelemetry);
    let all = families(&text);
    assert_eq!(all.len(), metrics().map(|(_, metric)| metric.name).collect::<BTreeSet<_>>().len());
    let mut names = BTreeMap::new();
    for (kind, metric) in metrics() {
        let mut one = full_record(kind);
        let Mapping::Metrics { metrics, .. } = kind.mapping else { unreachable!() };
        let others: BTreeSet<_> =
            metrics.iter().map(|other| other.field).filter(|field| *field != metric.field).collect();
        one.as_object_mut().unwrap().retain(|name, _| !others.contains(&**name) || name == "scale");
        let text = expose(&[one], Names::OpenTelemetry);
        for family in families(&text).into_keys() {
            assert!(all.contains_key(family), "{family} of {}", metric.name);
            let same_field = metrics.iter().filter(|other| other.field == metric.field);
            let of: BTreeSet<_> = same_field.map(|other| other.name).collect();
            assert!(
                names.entry(family.to_owned()).or_insert(of.clone()) == &of || of.len() == 1,
                "{family}: {of:?}"
            );
        }
        assert!(!families(&text).is_empty(), "{}: {} is missing", kind.name, metric.name);
    }
    let Some(complaints) = complaints(&text) else { return };
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_established_name_is_exposed() {
    let records: Vec<_> = KINDS
        .iter()
        .filter(|kind| matches!(kind.mapping, Mapping::Metrics { .. }))
        .map(|kind| full_record(kind))
        .collect();
    let text = expose(&records, Names::Both);
    let (families, established) = (families(&text), established());
    for name in &established {
        let of_type = families.get(&**name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(*of_type == "counter", name.ends_with("_total"), "{name} is a {of_type}");
    }
    // The established names themselves are not all what promtool would advise.
    let others = complaints(&text).unwrap_or_default();
    let others: Vec<_> =
        others.iter().filter(|line| !established.contains(line.split(' ').next().unwrap())).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn what_this_machine_measures_is_exposed_as_measured() {
    let records = records::records(program!("scrape"), &["--per-cpu", "-n", "2", "-i", "200ms"]);
    let text = expose(&records, Names::OpenTelemetry);
    if let Some(complaints) = complaints(&text) {
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
    let both = expose(&records, Names::Both);
    let value = |name: &str, labels: &str| {
        let found: Vec<f64> = both
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        found.iter().sum::<f64>()
    };
    let last = |kind: &str| records.iter().rfind(|record| record["kind"] == kind).unwrap();
    let memory = last("memory")["total_bytes"].as_f64().unwrap();
    assert_eq!(
        (value("system_memory_limit_bytes", ""), value("node_memory_MemTotal_bytes", "")),
        (memory, memory)
    );
    let load = last("load")["load_5m"].as_f64().unwrap();
    assert_eq!((value("system_cpu_load_average_5m", ""), value("node_load5", "")), (load, load));
    let total = records.iter().rfind(|record| record["kind"] == "cpu" && record["cpu"].is_null()).unwrap();
    let user = total["user_s"].as_f64().unwrap();
    // The sum over the CPUs, each of which is rounded to a clock tick.
    let [open_telemetry, node] = [
        value("system_cpu_time_seconds_total", "cpu_mode=\"user\""),
        value("node_cpu_seconds_total", "mode=\"user\""),
    ];
    assert_eq!(open_telemetry, node);
    assert!((node - user).abs() < 1.0, "{node} is not {user}");
}

#[test]
fn recordings_of_macos_are_exposed_without_a_complaint() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let input = |program: &Path, file: &str| {
        let path = fixtures.join(file);
        records::records(program, &["--input", path.to_str().unwrap(), "-n", "1"])
    };
    let mut all = input(program!("pmstat"), "powermetrics/apple.txt");
    all.extend(input(program!("vmstat-json"), "vm_stat/one_shot.txt"));
    let text = expose(&all, Names::OpenTelemetry);
    assert!(families(&text).len() > 20, "{text}");
    let Some(complaints) = complaints(&text) else { return };
    assert!(complaints.is_empty(), "{complaints:#?}");
}
