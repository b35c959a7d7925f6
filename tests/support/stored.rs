//! Splits what a Collector stored into single points and log records, and computes from the lines and the metric
//! tables what it should have stored.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use telepipe::common::time::Timestamp;
use telepipe::record::{Instrument, Kind, Mapping, Metric, Temporality, kind};

/// The identity of a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `host.name` of the resource.
    pub host: String,
    /// Name of the metric.
    pub metric: String,
    /// `key=value`, sorted.
    pub attributes: Vec<String>,
    /// In nanoseconds.
    pub time: u64,
}

/// The content of a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric's unit.
    pub unit: String,
    /// `gauge`, `sum`, `exponentialHistogram` …
    pub shape: String,
    /// 1 for delta, 2 for cumulative, 0 for a gauge.
    pub temporality: u64,
    /// Whether a sum is monotonic.
    pub monotonic: bool,
    /// Start time in nanoseconds, or 0.
    pub start: u64,
    /// An integer if it was sent as one; for a histogram, its buckets, count and so on.
    pub value: Value,
}

/// Points by name; several if one was stored more than once.
pub type Points = BTreeMap<Name, Vec<Point>>;

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A 64-bit integer, which OTLP/JSON writes as a string.
pub fn integer(value: &Value) -> u64 {
    value.as_str().map_or_else(|| value.as_u64().unwrap_or(0), |text| text.parse().expect("an integer"))
}

fn attributes(of: &Value) -> Vec<String> {
    let text = |value: &Value| {
        let (_, value) = value.as_object().and_then(|value| value.iter().next()).expect("a value");
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let pairs = list(of, "attributes").iter();
    let mut pairs: Vec<_> =
        pairs.map(|pair| format!("{}={}", pair["key"].as_str().unwrap(), text(&pair["value"]))).collect();
    pairs.sort();
    pairs
}

fn host(resource: &Value) -> String {
    let all = attributes(&resource["resource"]);
    all.iter().find_map(|pair| pair.strip_prefix("host.name=")).expect("a host.name").to_owned()
}

/// Every point of every stored request.
pub fn points(stored: &[Value]) -> Points {
    let mut all = Points::new();
    for resource in stored.iter().flat_map(|line| list(line, "resourceMetrics")) {
        for metric in list(resource, "scopeMetrics").iter().flat_map(|scope| list(scope, "metrics")) {
            let shapes = ["gauge", "sum", "exponentialHistogram", "histogram", "summary"];
            let shape = shapes.into_iter().find(|shape| metric.get(shape).is_some()).expect("a shape");
            for point in list(&metric[shape], "dataPoints") {
                let name = Name {
                    host: host(resource),
                    metric: metric["name"].as_str().unwrap().into(),
                    attributes: attributes(point),
                    time: integer(&point["timeUnixNano"]),
                };
                let value = match (point["asInt"].as_str(), &point["asDouble"]) {
                    (Some(integer), _) => integer.parse::<i64>().expect("an integer").into(),
                    (None, Value::Null) => distribution(point),
                    (None, double) => double.clone(),
                };
                all.entry(name).or_default().push(Point {
                    unit: metric["unit"].as_str().unwrap_or("").into(),
                    shape: shape.into(),
                    temporality: integer(&metric[shape]["aggregationTemporality"]),
                    monotonic: metric[shape]["isMonotonic"].as_bool().unwrap_or(false),
                    start: integer(&point["startTimeUnixNano"]),
                    value,
                });
            }
        }
    }
    all
}

/// An exponential histogram, with its buckets by index.
fn distribution(point: &Value) -> Value {
    let offset = point["positive"]["offset"].as_i64().unwrap_or(0);
    let counts = list(&point["positive"], "bucketCounts").iter().map(integer);
    let buckets = (offset..).zip(counts).filter(|(_, count)| *count > 0);
    let buckets: Map<_, _> = buckets.map(|(index, count)| (index.to_string(), count.into())).collect();
    let [scale, sum, max] = ["scale", "sum", "max"].map(|name| point[name].as_f64());
    let zero = (integer(&point["zeroCount"]), point["zeroThreshold"].as_f64().unwrap_or(0.0));
    json!({
        "count": integer(&point["count"]), "zero": zero, "scale": scale, "sum": sum, "max": max, "buckets": buckets,
    })
}

/// The number of stored log records with this event name.
pub fn events(stored: &[Value], name: &str) -> usize {
    let scopes = stored.iter().flat_map(|line| list(line, "resourceLogs"));
    let records =
        scopes.flat_map(|resource| list(resource, "scopeLogs")).flat_map(|scope| list(scope, "logRecords"));
    records.filter(|record| record["eventName"] == name).count()
}

fn time(record: &Value, field: &str) -> u64 {
    record[field].as_str().map_or(0, |text| text.parse::<Timestamp>().expect("a time").0)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The points that a record must become.
pub fn expected(record: &Value) -> Vec<(Name, Point)> {
    let found: &Kind = kind(record["kind"].as_str().expect("a kind")).expect("a kind of ours");
    let Mapping::Metrics { metrics, temporality } = &found.mapping else { return vec![] };
    if found.total_if.is_some_and(|field| record[field] == true) {
        return vec![];
    }
    let about = found.attributes.iter().filter(|(field, _)| !record[*field].is_null());
    let about: Vec<_> = about.map(|(field, key)| format!("{key}={}", text(&record[*field]))).collect();
    let mut all = vec![];
    for metric in *metrics {
        let single = || Map::from_iter([(String::new(), record[metric.field].clone())]);
        let entries = match metric.key {
            Some(_) => record[metric.field].as_object().cloned().unwrap_or_default(),
            None => single(),
        };
        for (key, value) in entries.iter().filter(|(_, value)| value.is_number() || value.is_object()) {
            let mut attributes = about.clone();
            attributes.extend(metric.attributes.iter().map(|(key, value)| format!("{key}={value}")));
            attributes.extend(metric.key.map(|attribute| format!("{attribute}={key}")));
            attributes.sort();
            let name = Name {
                host: record["host"].as_str().unwrap().into(),
                metric: metric.name.into(),
                attributes,
                time: time(record, "ts"),
            };
            all.push((name, point(metric, *temporality, record, value)));
        }
    }
    all
}

fn point(metric: &Metric, temporality: Temporality, record: &Value, value: &Value) -> Point {
    let whole = value.is_i64() && metric.factor == 1.0;
    // A field that can decrease is a gauge, also in a record of counters.
    let delta = temporality == Temporality::Delta && metric.instrument != Instrument::UpDownCounter;
    let (shape, value) = match metric.instrument {
        Instrument::Gauge | Instrument::Counter | Instrument::UpDownCounter => {
            let shape = if metric.instrument == Instrument::Gauge { "gauge" } else { "sum" };
            (shape, if whole { value.clone() } else { (value.as_f64().unwrap() * metric.factor).into() })
        }
        Instrument::Histogram => {
            let prefix = metric.field.strip_suffix("buckets").unwrap();
            let nanoseconds =
                |name: &str| record[format!("{prefix}{name}")].as_f64().map(|us| (us * 1000.0).round());
            let counts = value.as_object().unwrap().values().map(|count| count.as_u64().unwrap());
            let zero_count = record[format!("{prefix}zero_count")].as_u64();
            let zero = zero_count.map_or((0, 0.0), |count| (count, 128.0));
            let value = json!({
                "count": zero.0 + counts.sum::<u64>(), "zero": zero, "scale": record["scale"].as_f64(),
                "sum": nanoseconds("sum_us"), "max": nanoseconds("max_us"), "buckets": value,
            });
            ("exponentialHistogram", value)
        }
    };
    let level = shape == "gauge" || (temporality == Temporality::Delta && !delta);
    Point {
        unit: metric.unit.into(),
        shape: shape.into(),
        temporality: if shape == "gauge" { 0 } else { 2 - u64::from(delta) },
        monotonic: metric.instrument == Instrument::Counter,
        start: if level { 0 } else { time(record, "start_ts") },
        value,
    }
}
