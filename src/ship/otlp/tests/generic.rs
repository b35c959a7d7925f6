//! `metric` records.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality as Time, metric::Data, number_data_point::Value as Number,
};
use serde_json::json;

use super::metrics::{by_name, values};
use super::*;

fn point(second: u32, fields: &str) -> String {
    format!(r#"{{"ts":"2026-11-20T20:45:{second:02}Z","kind":"metric","host":"h",{fields}}}"#)
}

const SECOND_0: u64 = 1_795_207_500_000_000_000;
const START: &str = r#""start_ts":"2026-11-20T20:44:00Z""#;
const START_NANOS: u64 = SECOND_0 - 60_000_000_000;

#[test]
fn gauges_counters_and_levels() {
    let request = metrics_of(&[
        point(
            0,
            r#""name":"g","unit":"Cel","description":"how warm","value":21.5,"attributes":{"room":"1","floor":2}"#,
        ),
        point(0, &format!(r#""name":"c","type":"counter","value":7,{START}"#)),
        point(0, &format!(r#""name":"d","type":"counter","temporality":"delta","value":1,{START}"#)),
        point(0, r#""name":"u","type":"updowncounter","value":-1"#),
        point(1, r#""name":"g","unit":"Cel","description":"other words","value":22"#),
        point(1, r#""name":"g","unit":"K","value":295"#),
    ]);
    let all = &request.resource_metrics[0].scope_metrics[0].metrics;
    let [g, c, d, u, k] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&*g.unit, &*g.description, &*k.unit, &*k.description), ("Cel", "how warm", "K", ""));
    let room = json!({"room": "1", "floor": 2});
    assert_eq!(values(g), [(room, 0, Number::AsDouble(21.5)), (json!({}), 0, Number::AsInt(22))]);
    for (metric, value, start, time, monotonic) in [
        (c, 7, START_NANOS, Time::Cumulative, true),
        (d, 1, START_NANOS, Time::Delta, true),
        (u, -1, 0, Time::Cumulative, false),
    ] {
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert_eq!((sum.aggregation_temporality(), sum.is_monotonic), (time, monotonic));
        assert_eq!(values(metric), [(json!({}), start, Number::AsInt(value))]);
    }
}

#[test]
fn histograms_and_summaries() {
    let request = metrics_of(&[
        point(
            0,
            &format!(
                r#""name":"h","type":"histogram","count":3,"sum":4.5,"min":0.5,"max":3,"bounds":[1,2.5],"bucket_counts":[1,0,2],"attributes":{{"a":1}},{START}"#
            ),
        ),
        point(0, r#""name":"b","type":"histogram","count":3,"sum":4"#),
        point(
            0,
            r#""name":"s","type":"summary","count":5,"sum":6,"quantiles":[0.5,1],"values":[1,2.5],"attributes":{"a":1}"#,
        ),
    ]);
    let metrics = by_name(&request);
    let Some(Data::Histogram(whole)) = &metrics["h"].data else { panic!() };
    assert_eq!(whole.aggregation_temporality(), Time::Cumulative);
    let point = &whole.data_points[0];
    assert_eq!(
        (point.count, point.sum, point.start_time_unix_nano, point.time_unix_nano),
        (3, Some(4.5), START_NANOS, SECOND_0)
    );
    assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 0, 2][..], &[1.0, 2.5][..]));
    assert_eq!(
        (attributes(&point.attributes), point.min, point.max),
        (json!({"a": 1}), Some(0.5), Some(3.0))
    );
    let Some(Data::Histogram(bare)) = &metrics["b"].data else { panic!() };
    let point = &bare.data_points[0];
    assert_eq!((point.count, point.sum, point.bucket_counts.len()), (3, Some(4.0), 0));
    assert_eq!((point.min, point.max), (None, None));
    let Some(Data::Summary(summary)) = &metrics["s"].data else { panic!() };
    let point = &summary.data_points[0];
    let quantiles: Vec<_> = point.quantile_values.iter().map(|at| (at.quantile, at.value)).collect();
    assert_eq!((point.count, point.sum, quantiles), (5, 6.0, vec![(0.5, 1.0), (1.0, 2.5)]));
    assert_eq!(attributes(&point.attributes), json!({"a": 1}));
}

#[test]
fn a_value_that_goes_back_starts_again() {
    let counter = |second, attribute: &str, value| {
        point(
            second,
            &format!(r#""name":"c","type":"counter","value":{value},"attributes":{{"a":"{attribute}"}}"#),
        )
    };
    let histogram = |second, low| {
        point(
            second,
            &format!(r#""name":"h","type":"histogram","bounds":[1],"bucket_counts":[{low},0],{START}"#),
        )
    };
    let request = metrics_of(&[
        counter(1, "x", 5),
        counter(1, "y", 5),
        counter(2, "y", 1),
        counter(2, "x", 5),
        histogram(1, 9),
        histogram(2, 8),
    ]);
    let metrics = by_name(&request);
    let starts: Vec<_> = values(metrics["c"]).iter().map(|(_, start, _)| *start).collect();
    assert_eq!(starts, [0, 0, SECOND_0 + 1_000_000_000, 0]);
    let Some(Data::Histogram(histogram)) = &metrics["h"].data else { panic!() };
    let starts: Vec<_> = histogram.data_points.iter().map(|point| point.start_time_unix_nano).collect();
    assert_eq!(starts, [START_NANOS, SECOND_0 + 1_000_000_000]);
}

#[test]
fn an_invalid_metric_is_refused_and_the_reason_names_the_field() {
    for (fields, reason) in [
        (r#""value":1"#, "name is missing"),
        (r#""name":"","value":1"#, "name is missing"),
        (r#""name":5,"value":1"#, "name is not a string"),
        (r#""name":"n""#, "value is missing"),
        (r#""name":"n","value":"1""#, "value is not a number"),
        (
            r#""name":"n","type":"Gauge","value":1"#,
            "type is `Gauge`, not one of gauge, counter, updowncounter, histogram, summary",
        ),
        (r#""name":"n","type":1,"value":1"#, "type is not a string"),
        (
            r#""name":"n","type":"counter","temporality":"since","value":1"#,
            "temporality is `since`, not one of cumulative, delta",
        ),
        (r#""name":"n","value":1,"unit":5"#, "unit is not a string"),
        (r#""name":"n","value":1,"description":["a"]"#, "description is not a string"),
        (r#""name":"n","value":1,"attributes":["a"]"#, "attributes is not a map"),
        (r#""name":"n","value":1,"host":5"#, "host is not a string"),
        (r#""name":"n","type":"histogram""#, "count is missing"),
        (r#""name":"n","type":"histogram","count":1,"min":"1""#, "min is not a number"),
        (r#""name":"n","type":"histogram","count":1,"min":2,"max":1"#, "min is 2, which is above max, 1"),
        (
            r#""name":"n","type":"histogram","bounds":[1],"bucket_counts":[1]"#,
            "bucket_counts has 1 elements and bounds has 1; it must have one more",
        ),
        (
            r#""name":"n","type":"histogram","bounds":[2,1],"bucket_counts":[1,1,1]"#,
            "bounds are not in ascending order",
        ),
        (
            r#""name":"n","type":"histogram","bounds":["1"],"bucket_counts":[1,1]"#,
            "bounds has an element that is not a number",
        ),
        (
            r#""name":"n","type":"histogram","bounds":[1],"bucket_counts":[1,-1]"#,
            "bucket_counts has an element that is not a count",
        ),
        (r#""name":"n","type":"histogram","bounds":1"#, "bounds is not an array"),
        (
            r#""name":"n","type":"histogram","count":3,"bounds":[1],"bucket_counts":[1,1]"#,
            "count is 3, but bucket_counts add up to 2",
        ),
        (r#""name":"n","type":"histogram","count":1.5"#, "count is not a count"),
        (r#""name":"n","type":"histogram","count":1,"sum":"2""#, "sum is not a number"),
        (
            r#""name":"n","type":"summary","count":1,"quantiles":[0.5],"values":[]"#,
            "quantiles has 1 elements and values has 0",
        ),
        (
            r#""name":"n","type":"summary","count":1,"quantiles":[99],"values":[1]"#,
            "quantiles are not between 0 and 1",
        ),
        (r#""name":"n","type":"summary","quantiles":[],"values":[]"#, "count is missing"),
    ] {
        let encoded = encode(&[point(0, fields)]);
        assert_eq!(encoded.rejected, [(0, reason.to_owned())], "{fields}");
        assert!(encoded.requests.is_empty());
    }
}
