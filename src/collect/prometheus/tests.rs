//! Tests both formats with examples of their specifications and with generated models.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::{Attributes, MetricType};

fn points(text: &str, openmetrics: bool) -> (Vec<(Option<Timestamp>, MetricPoint)>, Tally) {
    let mut points = Vec::new();
    let tally = read(text, openmetrics, &mut |ts, point| {
        points.push((ts, point));
        Ok(())
    })
    .unwrap();
    (points, tally)
}

fn bodies(text: &str, openmetrics: bool) -> (Vec<serde_json::Value>, Tally) {
    let (points, tally) = points(text, openmetrics);
    (points.iter().map(|(_, point)| serde_json::to_value(point).unwrap()).collect(), tally)
}

#[test]
fn text_format() {
    let text = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
untyped 12.47
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="0.1"} 33444
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320
# TYPE rpc summary
rpc{quantile="0.5"} 4773
rpc{quantile="0.99"} NaN
rpc_sum 1.7560473e+07
rpc_count 2693
"#;
    let (found, tally) = points(text, false);
    assert_eq!(found[0].0.unwrap().to_string(), "2014-03-17T14:26:03.000000000Z");
    let found: Vec<_> = found.iter().map(|(_, point)| serde_json::to_value(point).unwrap()).collect();
    let expected = [
        json!({"name": "http_requests_total", "type": "counter", "value": 1027,
            "description": "The total number of HTTP requests.",
            "attributes": {"method": "post", "code": "200"}}),
        json!({"name": "untyped", "type": "gauge", "value": 12.47, "attributes": {}}),
        json!({"name": "http_request_duration_seconds", "type": "histogram", "unit": "s",
            "count": 144320, "sum": 53423, "bounds": [0.05, 0.1], "bucket_counts": [24054, 9390, 110876],
            "attributes": {}}),
        json!({"name": "rpc", "type": "summary", "count": 2693, "sum": 17560473,
            "quantiles": [0.5], "values": [4773.0], "attributes": {}}),
    ];
    assert_eq!(found, expected);
    assert_eq!(tally, Tally { samples: 11, points: 4, not_finite: 1, ..Tally::default() });
}

#[test]
fn openmetrics() {
    let text = r#"# TYPE foo_seconds counter
# UNIT foo_seconds seconds
foo_seconds_total{a="1"} 17.0 1520879607.789 # {id="x"} 1 1
foo_seconds_created{a="1"} 1520430000.123
# TYPE foohist histogram
foohist_bucket{le="0.0",x="y"} 0 # {} 0.5
foohist_bucket{le="1e+05",x="y"} 2.0
foohist_bucket{le="+Inf",x="y"} 3
foohist_created{x="y"} 1.520430000123e+09
# TYPE states stateset
states{states="on"} 1
# TYPE build info
build_info{version="8.1"} 1
# TYPE gh gaugehistogram
gh_bucket{le="+Inf"} 4
gh_gsum -3
# EOF
not read 1
"#;
    let (found, tally) = bodies(text, true);
    let start = "2018-03-07T13:40:00.123000000Z";
    let expected = [
        json!({"name": "foo_seconds_total", "type": "counter", "unit": "s", "value": 17.0,
            "start_ts": start, "attributes": {"a": "1"}}),
        json!({"name": "foohist", "type": "histogram", "count": 3, "bounds": [0.0, 1e5],
            "bucket_counts": [0, 2, 1], "start_ts": start, "attributes": {"x": "y"}}),
        json!({"name": "states", "type": "gauge", "value": 1, "attributes": {"states": "on"}}),
        json!({"name": "build_info", "type": "gauge", "value": 1, "attributes": {"version": "8.1"}}),
        json!({"name": "gh_bucket", "type": "gauge", "value": 4, "attributes": {"le": "+Inf"}}),
        json!({"name": "gh_gsum", "type": "gauge", "value": -3, "attributes": {}}),
    ];
    assert_eq!(found, expected);
    assert_eq!((tally.samples, tally.bad, tally.cut_short), (10, 0, false));
    assert!(points("a 1\n", true).1.cut_short);
}

#[test]
fn malformed_lines_are_counted_and_the_others_parsed() {
    let text = "a 1\nb{ 2\n<html>\nc 3 soon\n# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 4\n\
        h_count 5\n# TYPE k histogram\nk_sum 1\n# TYPE c counter\nc_created 1\n# TYPE s summary\n\
        s{quantile=\"x\"} 1\nd 4\n";
    let (found, tally) = bodies(text, false);
    let names: Vec<_> = found.iter().map(|point| point["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "d"]);
    assert_eq!((tally.samples, tally.bad), (9, 9));
    assert_eq!(tally.first_bad.as_deref(), Some("line 2: b{ 2"));
}

#[test]
fn several_times_of_one_series_are_several_points() {
    let text = "# TYPE a counter\na_total 1 10\na_total 2 20\na_created 5\n# TYPE s summary\n\
        s{quantile=\"0\"} 1 10\ns{quantile=\"0\"} 2 20\n# EOF\n";
    let (found, tally) = points(text, true);
    let times: Vec<_> = found.iter().map(|(ts, point)| (ts.unwrap().0 / 1_000_000_000, point)).collect();
    assert_eq!(times.iter().map(|(secs, _)| *secs).collect::<Vec<_>>(), [10, 20, 10, 20]);
    assert_eq!((times[1].1.start_ts.unwrap().0, tally.bad), (5_000_000_000, 0));
}

/// A series that can be written as an exposition.
#[derive(Clone, Debug)]
enum Model {
    Gauge(f64),
    Counter(u64, Option<u32>),
    /// Bounds, a count per bucket, the sum.
    Histogram(Vec<f64>, Vec<u32>, f64),
    Summary(Vec<(f64, f64)>, u32),
}

fn model() -> impl Strategy<Value = Model> {
    let finite = proptest::num::f64::NORMAL | proptest::num::f64::ZERO;
    let bounds = proptest::collection::btree_set(-1000i32..1000, 0..6);
    let histogram =
        (bounds, proptest::collection::vec(any::<u32>(), 7), finite).prop_map(|(bounds, mut counts, sum)| {
            counts.truncate(bounds.len() + 1);
            Model::Histogram(bounds.into_iter().map(|bound| f64::from(bound) / 8.0).collect(), counts, sum)
        });
    let quantiles = proptest::collection::btree_map(0u32..100, finite, 0..4);
    let summary = (quantiles, any::<u32>()).prop_map(|(quantiles, count)| {
        Model::Summary(quantiles.into_iter().map(|(q, v)| (f64::from(q) / 100.0, v)).collect(), count)
    });
    prop_oneof![
        finite.prop_map(Model::Gauge),
        (any::<u64>(), any::<Option<u32>>()).prop_map(|(value, created)| Model::Counter(value, created)),
        histogram,
        summary,
    ]
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `{a="1",le="0.5"}`, or nothing.
fn braces(labels: &[(String, String)], more: Option<(&str, String)>) -> String {
    let mut pairs: Vec<_> =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    pairs.extend(more.map(|(key, value)| format!("{key}=\"{value}\"")));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

impl Model {
    fn write(&self, name: &str, labels: &[(String, String)], out: &mut String) {
        let plain = braces(labels, None);
        match self {
            Self::Gauge(value) => writeln!(out, "# TYPE {name} gauge\n{name}{plain} {value:e}").unwrap(),
            Self::Counter(value, created) => {
                writeln!(out, "# TYPE {name} counter\n{name}_total{plain} {value}").unwrap();
                if let Some(created) = created {
                    writeln!(out, "{name}_created{plain} {created}").unwrap();
                }
            }
            Self::Histogram(bounds, counts, sum) => {
                writeln!(out, "# TYPE {name} histogram").unwrap();
                let mut upto = 0;
                let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                for (bound, count) in bounds.zip(counts) {
                    upto += u64::from(*count);
                    writeln!(out, "{name}_bucket{} {upto}", braces(labels, Some(("le", bound)))).unwrap();
                }
                writeln!(out, "{name}_sum{plain} {sum:e}\n{name}_count{plain} {upto}").unwrap();
            }
            Self::Summary(quantiles, count) => {
                writeln!(out, "# TYPE {name} summary").unwrap();
                for (quantile, value) in quantiles {
                    let braces = braces(labels, Some(("quantile", quantile.to_string())));
                    writeln!(out, "{name}{braces} {value:e}").unwrap();
                }
                writeln!(out, "{name}_count{plain} {count}").unwrap();
            }
        }
    }

    /// Asserts that the parsed point equals the model.
    fn check(&self, name: &str, point: &MetricPoint) {
        let number = |number: &Option<serde_json::Number>| number.as_ref().and_then(|n| n.as_f64());
        match self {
            Self::Gauge(value) => {
                assert_eq!((point.name.as_str(), point.metric_type), (name, MetricType::Gauge));
                assert_eq!(number(&point.value), Some(*value));
            }
            Self::Counter(value, created) => {
                assert_eq!(
                    (point.name.clone(), point.metric_type),
                    (format!("{name}_total"), MetricType::Counter)
                );
                assert_eq!(point.value, Some((*value).into()));
                assert_eq!(point.start_ts, created.map(|secs| Timestamp(u64::from(secs) * 1_000_000_000)));
            }
            Self::Histogram(bounds, counts, sum) => {
                assert_eq!((point.name.as_str(), point.metric_type), (name, MetricType::Histogram));
                assert_eq!(point.bounds.as_ref(), Some(bounds));
                let counts: Vec<_> = counts.iter().map(|&count| u64::from(count)).collect();
                assert_eq!((point.count, number(&point.sum)), (Some(counts.iter().sum()), Some(*sum)));
                assert_eq!(point.bucket_counts, Some(counts));
            }
            Self::Summary(quantiles, count) => {
                assert_eq!((point.name.as_str(), point.metric_type), (name, MetricType::Summary));
                assert_eq!(point.count, Some(u64::from(*count)));
                let (at, values) = quantiles.iter().copied().unzip();
                assert_eq!((&point.quantiles, &point.values), (&Some(at), &Some(values)));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_written_exposition_is_parsed(
        families in proptest::collection::vec(
            (model(), proptest::collection::btree_map("[a-k][a-z0-9_]{0,6}", "\\PC*|[\\\\\"\n{}, =#]{0,8}", 0..4)),
            0..8,
        ),
    ) {
        let mut text = String::new();
        let families: Vec<_> = families
            .into_iter()
            .enumerate()
            .map(|(index, (model, labels))| (format!("m{index}_x"), model, labels.into_iter().collect::<Vec<_>>()))
            .collect();
        for (name, model, labels) in &families {
            model.write(name, labels, &mut text);
        }
        text.push_str("# EOF\n");
        let (found, tally) = points(&text, true);
        prop_assert_eq!((tally.bad, &tally.first_bad, found.len()), (0, &None, families.len()), "{}", text);
        for ((name, model, labels), (_, point)) in families.iter().zip(&found) {
            model.check(name, point);
            let expected: Attributes = labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
            prop_assert_eq!(&point.attributes, &expected);
        }
    }

    #[test]
    fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..400), om in any::<bool>()) {
        let text = String::from_utf8_lossy(&bytes);
        points(&text, om);
    }

    #[test]
    fn any_tokens_are_accounted_for(
        tokens in proptest::collection::vec(
            prop::sample::select(vec![
                "a", "a_bucket", "a_count", "a_sum", "a_created", "a_total", "{", "}", "le=\"1\"", "le=\"+Inf\"",
                "quantile=\"NaN\"", "x=\"\\\\", "\"", ",", " ", " 1", " 2.5", " NaN", " -1e9", "\n", "\n", "#", "# TYPE a ",
                "histogram", "summary", "counter", "# HELP a", "# UNIT a seconds", "\r", " 99999999999999999999",
            ]),
            0..60,
        ),
        om in any::<bool>(),
    ) {
        let text = tokens.concat();
        let (found, tally) = points(&text, om);
        prop_assert_eq!(found.len() as u64, tally.points);
        prop_assert!(tally.points <= tally.samples);
        for (_, point) in &found {
            let line = serde_json::to_string(point).unwrap();
            prop_assert!(!line.contains("null"), "{}", line);
            if let (Some(bounds), Some(counts)) = (&point.bounds, &point.bucket_counts) {
                prop_assert_eq!(bounds.len() + 1, counts.len());
                prop_assert_eq!(Some(counts.iter().sum::<u64>()), point.count);
            }
        }
    }
}
