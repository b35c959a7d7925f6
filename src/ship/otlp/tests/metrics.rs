//! Records of the kinds that are metrics.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality as Time, Metric, NumberDataPoint, metric::Data, number_data_point::Value as Number,
};
use serde_json::json;

use super::*;

pub const TS: &str = "2026-11-20T20:45:00.123456789Z";
pub const TS_NANOS: u64 = 1_795_207_500_123_456_789; // date -ud 2026-11-20T20:45:00 +%s
const START: &str = "2026-11-01T00:00:00.000000000Z";
const START_NANOS: u64 = 1_793_491_200_000_000_000;

fn points(metric: &Metric) -> &[NumberDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        other => panic!("{other:?}"),
    }
}

/// The metrics of the only host, by name.
pub fn by_name(request: &ExportMetricsServiceRequest) -> BTreeMap<&str, &Metric> {
    let [resource] = &request.resource_metrics[..] else { panic!("{request:?}") };
    let [scope] = &resource.scope_metrics[..] else { panic!("{resource:?}") };
    let about = scope.scope.as_ref().unwrap();
    assert_eq!((&*about.name, &*about.version), ("telepipe", env!("CARGO_PKG_VERSION")));
    let named: BTreeMap<_, _> = scope.metrics.iter().map(|metric| (&*metric.name, metric)).collect();
    assert_eq!(named.len(), scope.metrics.len());
    named
}

/// The attributes, start time and value of each point.
pub fn values(metric: &Metric) -> Vec<(Value, u64, Number)> {
    let value = |point: &NumberDataPoint| {
        (attributes(&point.attributes), point.start_time_unix_nano, point.value.unwrap())
    };
    points(metric).iter().map(value).collect()
}

fn disk(device: &str, second: u32, fields: &str) -> String {
    format!(
        r#"{{"ts":"2026-11-20T20:45:{second:02}Z","kind":"disk","host":"h","device":"{device}","whole":true,"start_ts":"{START}",{fields}}}"#
    )
}

#[test]
fn a_record_becomes_a_point_per_metric() {
    let line = format!(
        r#"{{"ts":"{TS}","kind":"load","host":"here","load_1m":0.5,"load_5m":1,"load_15m":null,"last_pid":9}}"#
    );
    let request = metrics_of(&[line]);
    let mut resource = attributes(&request.resource_metrics[0].resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.instance.id"].take().as_str().unwrap().len(), 36);
    assert_eq!(
        resource,
        json!({
            "service.name": "telepipe", "service.instance.id": null, "host.name": "here", "host.id": "0123",
            "os.type": "linux", "telemetry.sdk.name": "telepipe", "telemetry.sdk.language": "rust",
            "telemetry.sdk.version": env!("CARGO_PKG_VERSION"),
        })
    );
    let metrics = by_name(&request);
    assert_eq!(
        metrics.keys().collect::<Vec<_>>(),
        [&"system.cpu.load_average.1m", &"system.cpu.load_average.5m"]
    );
    let load = metrics["system.cpu.load_average.1m"];
    assert_eq!((&*load.unit, points(load)[0].time_unix_nano), ("{thread}", TS_NANOS));
    assert!(matches!(load.data, Some(Data::Gauge(_))));
    assert_eq!(values(load), [(json!({}), 0, Number::AsDouble(0.5))]);
    // A double by its schema, although a filter wrote 1 for 1.0.
    assert_eq!(values(metrics["system.cpu.load_average.5m"]), [(json!({}), 0, Number::AsDouble(1.0))]);
}

#[test]
fn points_of_several_lines_share_a_metric() {
    let fields = r#""reads":7,"writes":9223372036854775807,"flushes":18446744073709551615,"in_flight":0,"read_time_s":1.25"#;
    let request = metrics_of(&[disk("sda", 1, fields), disk("sdb", 1, fields), disk("sda", 2, fields)]);
    let metrics = by_name(&request);
    let about = |device: &str, direction: Option<&str>| match direction {
        None => json!({"system.device": device, "telepipe.disk.whole": true}),
        Some(direction) => {
            json!({"system.device": device, "telepipe.disk.whole": true, "disk.io.direction": direction})
        }
    };
    let operations = values(metrics["system.disk.operations"]);
    let of = |device, value, direction| (about(device, Some(direction)), START_NANOS, Number::AsInt(value));
    assert_eq!(
        operations,
        [
            of("sda", 7, "read"),
            of("sda", i64::MAX, "write"),
            of("sdb", 7, "read"),
            of("sdb", i64::MAX, "write"),
            of("sda", 7, "read"),
            of("sda", i64::MAX, "write"),
        ]
    );
    let Some(Data::Sum(sum)) = &metrics["system.disk.operations"].data else { panic!() };
    assert_eq!((sum.aggregation_temporality(), sum.is_monotonic), (Time::Cumulative, true));
    let Some(Data::Sum(sum)) = &metrics["system.disk.pending_operations"].data else { panic!() };
    assert_eq!((sum.aggregation_temporality(), sum.is_monotonic), (Time::Cumulative, false));
    let flushes = values(metrics["telepipe.disk.flush.operations"]);
    // Above i64::MAX.
    assert_eq!(flushes[1], (about("sdb", None), START_NANOS, Number::AsDouble(18_446_744_073_709_551_615.0)));
    assert_eq!(values(metrics["system.disk.operation_time"])[2].2, Number::AsDouble(1.25));
}

#[test]
fn each_host_has_its_resource() {
    let line = |host| format!(r#"{{"ts":"{TS}","kind":"load","host":"{host}","load_1m":1}}"#);
    let nobody = format!(r#"{{"ts":"{TS}","kind":"load","load_1m":1}}"#);
    let request = metrics_of(&[line("b"), line("here"), line("b"), nobody]);
    let resources = request.resource_metrics.iter();
    let hosts: Vec<_> = resources
        .map(|of| {
            (attributes(&of.resource.as_ref().unwrap().attributes), points(&of.scope_metrics[0].metrics[0]))
        })
        .map(|(resource, points)| {
            (resource["host.name"].clone(), resource.get("host.id").cloned(), points.len())
        })
        .collect();
    assert_eq!(hosts, [(json!("b"), None, 2), (json!("here"), Some(json!("0123")), 2)]);
}

#[test]
fn a_total_is_left_out_if_its_parts_are_records() {
    let cpu = |fields: &str| format!(r#"{{"ts":"{TS}","kind":"cpu","host":"h",{fields}"user_s":1.5}}"#);
    let batch = batch(&[cpu(r#""per_cpu":true,"#), cpu(r#""cpu":0,"#), cpu("")]);
    let encoded = Encoder::new(options(Names::Semconv)).encode(&batch);
    let [request] = &encoded.requests[..] else { panic!() };
    assert_eq!((&request.lines[..], request.items), (&[1, 2][..], 2));
    let Request::Metrics(metrics) = decode(&request.body) else { panic!() };
    let times = values(by_name(&metrics)["system.cpu.time"]);
    assert_eq!(times[0].0, json!({"cpu.logical_number": 0, "cpu.mode": "user"}));
    assert_eq!(times[1].0, json!({"cpu.mode": "user"}));
}

#[test]
fn delta_counters_start_with_the_interval() {
    let line =
        format!(r#"{{"ts":"{TS}","kind":"lost","host":"h","start_ts":"{START}","source":"x","count":3}}"#);
    let request = metrics_of(&[line]);
    let lost = by_name(&request)["telepipe.lost"];
    let Some(Data::Sum(sum)) = &lost.data else { panic!() };
    assert_eq!((sum.aggregation_temporality(), sum.is_monotonic), (Time::Delta, true));
    assert_eq!(values(lost), [(json!({"telepipe.source": "x"}), START_NANOS, Number::AsInt(3))]);
}

#[test]
fn a_counter_that_goes_back_starts_again() {
    let second = |second: u64| 1_795_207_500_000_000_000 + second * 1_000_000_000;
    let reads =
        |at, reads| disk("sda", at, &format!(r#""reads":{reads},"writes":5,"in_flight":{}"#, 60 - at));
    let lines = [reads(1, 10), reads(2, 11), reads(3, 4), reads(4, 5), reads(5, 1), reads(6, 1)];
    let starts = |encoder: &mut Encoder, lines: &[String]| -> Vec<(u64, u64)> {
        let encoded = encoder.encode(&batch(lines));
        let Request::Metrics(metrics) = decode(&encoded.requests[0].body) else { panic!() };
        let all = values(by_name(&metrics)["system.disk.operations"]);
        all.chunks(2).map(|pair| (pair[0].1, pair[1].1)).collect()
    };
    let mut encoder = Encoder::new(options(Names::Semconv));
    let expected = [START_NANOS, START_NANOS, second(2), second(2), second(4), second(4)]
        .map(|start| (start, START_NANOS));
    assert_eq!(starts(&mut encoder, &lines), expected);
    // Encode halves of the batch again, in any order, as after a request that was too large.
    assert_eq!(starts(&mut encoder, &lines[3..]), expected[3..]);
    assert_eq!(starts(&mut encoder, &lines[..3]), expected[..3]);
    // After a reboot, start_ts changes.
    let booted = reads(9, 0).replace(START, "2026-11-20T20:45:08Z");
    assert_eq!(starts(&mut encoder, &[booted]), [(second(8), second(8))]);
}

#[test]
fn the_same_lines_give_the_same_bytes() {
    let lines = [disk("sdb", 1, r#""reads":1"#), disk("sda", 1, r#""writes":2,"reads":2"#)];
    let other = lines.iter().rev().map(|line| line.replace("\"h\"", "\"i\"")).collect::<Vec<_>>();
    let mut used = Encoder::new(options(Names::Semconv));
    used.encode(&batch(&other));
    used.encode(&batch(&[r#"{"kind":"metric","name":"n","value":1}"#]));
    let both = [&lines[..], &other].concat();
    let (fresh, again) = (encode(&both), used.encode(&batch(&both)));
    assert!(fresh.requests[0].body == again.requests[0].body);
}

#[test]
fn names_of_the_hostmetrics_receiver() {
    let lines = [
        disk("sda", 1, r#""reads":1"#),
        format!(r#"{{"ts":"{TS}","kind":"cpu","host":"h","cpu":3,"iowait_s":1.5}}"#),
    ];
    let encoded = Encoder::new(options(Names::Hostmetrics)).encode(&batch(&lines));
    let Request::Metrics(metrics) = decode(&encoded.requests[0].body) else { panic!() };
    let metrics = by_name(&metrics);
    let expected = json!({"device": "sda", "telepipe.disk.whole": true, "direction": "read"});
    assert_eq!(values(metrics["system.disk.operations"])[0].0, expected);
    assert_eq!(values(metrics["system.cpu.time"])[0].0, json!({"cpu": "cpu3", "state": "wait"}));
}
