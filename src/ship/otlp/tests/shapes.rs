//! Fields that are maps: exponential histograms, and metrics with an attribute per key.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality as Time, metric::Data, number_data_point::Value as Number,
};
use schemars::JsonSchema;
use serde_json::json;

use super::metrics::{TS, TS_NANOS, by_name, values};
use super::*;
use crate::record::{Kind, Metric};

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Interval {
    device: String,
    buckets: BTreeMap<i32, u64>,
    device_buckets: BTreeMap<i32, u64>,
    by_state: BTreeMap<String, u64>,
}

const METRICS: &[Metric] = &[
    Metric::histogram("buckets", "total").with(&[("part", "all")]),
    Metric::histogram("device_buckets", "device"),
    Metric::counter("by_state", "states", "{socket}").with(&[("t", "tcp")]).keyed("network.connection.state"),
];
static DELTA: Kind = Kind::delta::<Interval>("interval", "").about(&[("device", "d")]).metrics(METRICS);
static TOTAL: Kind = Kind::cumulative::<Interval>("interval", "").about(&[("device", "d")]).metrics(METRICS);

fn encode_as(kind: &'static Kind, names: Names, lines: &[String]) -> (u64, ExportMetricsServiceRequest) {
    let mut encoder = Encoder::with_kinds(options(names), &[kind]);
    let batch = batch(lines);
    let mut items = 0;
    for index in 0..batch.len() {
        let line = crate::ship::line::Line::parse(batch.line(index)).unwrap();
        items += encoder.record(kind, &line, 0).unwrap().1;
    }
    let bytes = encoder.groups.body(Signal::Metrics, &encoder.metrics, &encoder.pool);
    let body = Body { signal: Signal::Metrics, bytes };
    let Request::Metrics(request) = decode(&body) else { panic!() };
    (items, request)
}

fn line(fields: &str) -> String {
    format!(
        r#"{{"ts":"{TS}","kind":"interval","host":"h","device":"sda","start_ts":"2026-11-20T20:44:59Z",{fields}}}"#
    )
}

#[test]
fn buckets_become_an_exponential_histogram() {
    let fields = r#""count":9,"sum_us":1234.567,"max_us":800.001,"scale":5,"buckets":{"610":2,"607":1,"612":6},
        "device_sum_us":7,"device_buckets":{"-3":1,"-1":4294967296}"#;
    let (items, request) = encode_as(&DELTA, Names::Semconv, &[line(fields)]);
    let metrics = by_name(&request);
    assert_eq!((items, &*metrics["total"].unit), (2, "ns"));
    let Some(Data::ExponentialHistogram(total)) = &metrics["total"].data else { panic!() };
    assert_eq!(total.aggregation_temporality(), Time::Delta);
    let [point] = &total.data_points[..] else { panic!() };
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_795_207_499_000_000_000, TS_NANOS));
    assert_eq!((point.count, point.sum, point.max, point.min), (9, Some(1_234_567.0), Some(800_001.0), None));
    assert_eq!((point.scale, point.zero_count, point.zero_threshold), (5, 0, 0.0));
    let positive = point.positive.as_ref().unwrap();
    assert_eq!((positive.offset, &positive.bucket_counts[..]), (607, &[1, 0, 0, 2, 0, 6][..]));
    assert_eq!(attributes(&point.attributes), json!({"d": "sda", "part": "all"}));
    let Some(Data::ExponentialHistogram(device)) = &metrics["device"].data else { panic!() };
    let point = &device.data_points[0];
    assert_eq!((point.count, point.sum, point.max), (4_294_967_297, Some(7000.0), None));
    let positive = point.positive.as_ref().unwrap();
    assert_eq!((positive.offset, &positive.bucket_counts[..]), (-3, &[1, 0, 4_294_967_296][..]));
}

#[test]
fn zero_counts_have_their_threshold() {
    let fields = r#""count":12,"scale":5,"zero_count":3,"buckets":{"610":9},
        "device_zero_count":4294967296,"device_buckets":{}"#;
    let (items, request) = encode_as(&DELTA, Names::Semconv, &[line(fields)]);
    let metrics = by_name(&request);
    let point = |name: &str| {
        let Some(Data::ExponentialHistogram(histogram)) = &metrics[name].data else { panic!() };
        histogram.data_points[0].clone()
    };
    let (total, device) = (point("total"), point("device"));
    assert_eq!(items, 2);
    assert_eq!((total.count, total.zero_count, total.zero_threshold), (12, 3, 128.0));
    assert_eq!(total.positive.unwrap().bucket_counts, [9]);
    assert_eq!((device.count, device.zero_count, device.zero_threshold), (1 << 32, 1 << 32, 128.0));
    assert_eq!((device.scale, device.positive), (5, None));
}

#[test]
fn invalid_buckets_are_rejected() {
    for fields in [
        r#""scale":5,"buckets":{"one":1}"#,
        r#""scale":5,"buckets":{"1":-1}"#,
        r#""scale":5,"buckets":{"1":1.5}"#,
        r#""scale":5,"buckets":{"-2147483648":1,"2147483647":1}"#,
        r#""scale":5,"buckets":{"1":18446744073709551615,"01":1}"#,
        r#""scale":5,"buckets":[1]"#,
        r#""buckets":{"1":1}"#,
        r#""scale":21,"buckets":{"1":1}"#,
    ] {
        let (reason, text) = ("buckets is not a map of bucket counts with a scale", line(fields));
        let line = crate::ship::line::Line::parse(text.as_bytes()).unwrap();
        let mut encoder = Encoder::with_kinds(options(Names::Semconv), &[&DELTA]);
        assert_eq!(encoder.record(&DELTA, &line, 0).unwrap_err(), reason, "{fields}");
    }
    for fields in
        [r#""scale":5,"buckets":{}"#, r#""scale":5,"zero_count":0,"buckets":{}"#, r#""buckets":null"#]
    {
        let (items, request) = encode_as(&DELTA, Names::Semconv, &[line(fields)]);
        assert_eq!((items, request.resource_metrics.len()), (0, 0), "{fields}");
    }
}

#[test]
fn a_map_gives_a_point_per_key() {
    let (items, request) =
        encode_as(&DELTA, Names::Semconv, &[line(r#""by_state":{"listen":3,"time_wait":1.5,"n":null}"#)]);
    assert_eq!(items, 2);
    let start = 1_795_207_499_000_000_000;
    let about = |state: &str| json!({"d": "sda", "t": "tcp", "network.connection.state": state});
    let expected =
        [(about("listen"), start, Number::AsInt(3)), (about("time_wait"), start, Number::AsDouble(1.5))];
    assert_eq!(values(by_name(&request)["states"]), expected);
    let (_, request) = encode_as(&DELTA, Names::Hostmetrics, &[line(r#""by_state":{"fin_wait_1":3}"#)]);
    let renamed = json!({"d": "sda", "t": "tcp", "state": "FIN_WAIT1"});
    assert_eq!(values(by_name(&request)["states"])[0].0, renamed);
}

#[test]
fn each_key_restarts_on_its_own() {
    let at = |second: u32, states: &str| {
        line(&format!(r#""by_state":{states}"#)).replace(TS, &format!("2026-11-20T20:45:{second:02}Z"))
    };
    let lines = [at(1, r#"{"a":5,"b":5}"#), at(2, r#"{"b":4,"a":6}"#), at(3, r#"{"a":7,"b":9}"#)];
    let (_, request) = encode_as(&TOTAL, Names::Semconv, &lines);
    let (start, back) = (1_795_207_499_000_000_000, 1_795_207_501_000_000_000);
    let starts: Vec<_> = values(by_name(&request)["states"]).iter().map(|(_, start, _)| *start).collect();
    assert_eq!(starts, [start, start, back, start, start, back]);
}

#[test]
fn an_invalid_time_is_rejected_and_the_reason_names_the_field() {
    for (line, field) in [
        (r#"{"kind":"metric","name":"n","value":1,"ts":1795207500}"#, "ts"),
        (r#"{"kind":"log","body":"b","ts":"1969-12-31T23:59:59Z"}"#, "ts"),
        (r#"{"kind":"log","body":"b","ts":"yesterday"}"#, "ts"),
        (r#"{"kind":"metric","name":"n","value":1,"start_ts":0}"#, "start_ts"),
        (r#"{"kind":"span","begin_ts":5,"trace_id":"1","span_id":"1","name":"n"}"#, "begin_ts"),
    ] {
        let encoded = encode(&[line]);
        assert!(
            encoded.requests.is_empty() && encoded.rejected[0].1.starts_with(field),
            "{line}: {:?}",
            encoded.rejected
        );
    }
    assert_eq!(encode(&[r#"{"kind":"log","body":"b","ts":null}"#]).rejected, []);
}

#[test]
fn a_field_of_another_type_is_rejected_and_the_reason_names_it() {
    let text = line(r#""by_state":{"a":1,"b":"2"}"#);
    let states = crate::ship::line::Line::parse(text.as_bytes()).unwrap();
    let mut encoder = Encoder::with_kinds(options(Names::Semconv), &[&DELTA]);
    assert_eq!(encoder.record(&DELTA, &states, 0).unwrap_err(), "by_state is not a map of numbers");
    let load = format!(r#"{{"ts":"{TS}","kind":"load","load_5m":1,"load_1m":"high"}}"#);
    let encoded = encode(&[load]);
    assert_eq!(encoded.rejected, [(0, "load_1m is not a number".into())]);
    assert!(encoded.requests.is_empty());
}
