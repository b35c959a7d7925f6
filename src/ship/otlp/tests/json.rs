//! OTLP/JSON in both directions, compared with the serde implementations of opentelemetry-proto.

use opentelemetry_proto::tonic::common::v1::{ArrayValue, EntityRef, InstrumentationScope, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value as Number,
    summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn pair(key: &str, of: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: value(of), ..Default::default() }
}

/// Every kind of attribute value.
fn all_values() -> Vec<KeyValue> {
    use any_value::Value as V;
    let list = KeyValueList { values: vec![pair("in", V::StringValue(String::new()))] };
    let array = ArrayValue { values: vec![value(V::IntValue(0)).unwrap(), AnyValue { value: None }] };
    let bytes = |len: u8| pair(&format!("bytes{len}"), V::BytesValue((250..=255).take(len.into()).collect()));
    vec![
        pair("string", V::StringValue("\"\\\n\u{1}é😀".into())),
        pair("bool", V::BoolValue(true)),
        pair("int", V::IntValue(i64::MIN)),
        pair("double", V::DoubleValue(-0.1)),
        pair("array", V::ArrayValue(array)),
        pair("list", V::KvlistValue(list)),
        bytes(0),
        bytes(1),
        bytes(2),
        bytes(3),
        bytes(5),
        KeyValue { key: "none".into(), value: Some(AnyValue { value: None }), ..Default::default() },
    ]
}

fn resource() -> Option<Resource> {
    let entity = EntityRef {
        schema_url: "s".into(),
        r#type: "host".into(),
        id_keys: vec!["a".into(), "b".into()],
        description_keys: vec!["c".into()],
    };
    Some(Resource { attributes: all_values(), dropped_attributes_count: 1, entity_refs: vec![entity] })
}

fn scope() -> Option<InstrumentationScope> {
    let (name, version) = ("scope".into(), "2".into());
    Some(InstrumentationScope { name, version, attributes: all_values(), dropped_attributes_count: 2 })
}

fn metrics() -> ExportMetricsServiceRequest {
    let (start_time_unix_nano, time_unix_nano, attributes) = (u64::MAX - 1, u64::MAX, all_values());
    let exemplar = |value| Exemplar {
        filtered_attributes: all_values(),
        time_unix_nano: 3,
        span_id: vec![1; 8],
        trace_id: vec![0xab; 16],
        value: Some(value),
    };
    let exemplars = vec![exemplar(exemplar::Value::AsInt(-7)), exemplar(exemplar::Value::AsDouble(0.0))];
    let number = |value| NumberDataPoint {
        attributes: all_values(),
        start_time_unix_nano,
        time_unix_nano,
        exemplars: exemplars.clone(),
        flags: 1,
        value: Some(value),
    };
    let numbers =
        vec![number(Number::AsInt(i64::MIN)), number(Number::AsInt(0)), number(Number::AsDouble(1e300))];
    let explicit = HistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano,
        time_unix_nano,
        count: 9,
        sum: Some(0.0),
        bucket_counts: vec![0, u64::MAX, 1],
        explicit_bounds: vec![-1.5, 0.0],
        exemplars: exemplars.clone(),
        flags: 2,
        min: Some(-3.0),
        max: None,
    };
    let buckets = |offset| Some(Buckets { offset, bucket_counts: vec![1, 0, 1 << 40] });
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano,
        time_unix_nano,
        count: 10,
        sum: None,
        scale: -4,
        zero_count: 11,
        positive: buckets(i32::MIN),
        negative: buckets(i32::MAX),
        flags: 3,
        exemplars,
        min: Some(0.25),
        max: Some(12.5),
        zero_threshold: 0.5,
    };
    let quantile = |quantile| ValueAtQuantile { quantile, value: quantile * 10.0 };
    let summary = SummaryDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count: 12,
        sum: 13.5,
        quantile_values: vec![quantile(0.0), quantile(0.99)],
        flags: 4,
    };
    let (temporality, is_monotonic) = (2, true);
    let data = [
        Data::Gauge(Gauge { data_points: numbers.clone() }),
        Data::Sum(Sum { data_points: numbers, aggregation_temporality: 1, is_monotonic }),
        Data::Histogram(Histogram { data_points: vec![explicit], aggregation_temporality: temporality }),
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: temporality,
        }),
        Data::Summary(Summary { data_points: vec![summary] }),
    ];
    let metrics = data.into_iter().map(|data| Metric {
        name: "name".into(),
        description: "what".into(),
        unit: "By".into(),
        metadata: all_values(),
        data: Some(data),
    });
    let metrics = metrics.collect();
    let scope = ScopeMetrics { scope: scope(), metrics, schema_url: "u".into() };
    let resource =
        ResourceMetrics { resource: resource(), scope_metrics: vec![scope; 2], schema_url: "v".into() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource; 2] }
}

fn logs() -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 21,
        severity_text: "FATAL".into(),
        body: value(any_value::Value::KvlistValue(KeyValueList { values: all_values() })),
        attributes: all_values(),
        dropped_attributes_count: 3,
        flags: 4,
        trace_id: vec![5; 16],
        span_id: vec![6; 8],
        event_name: "e".into(),
    };
    let scope = ScopeLogs { scope: scope(), log_records: vec![record; 3], schema_url: "u".into() };
    let resource = ResourceLogs { resource: resource(), scope_logs: vec![scope], schema_url: "v".into() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}

fn traces() -> ExportTraceServiceRequest {
    let (trace_id, span_id, trace_state, attributes) = (vec![1; 16], vec![2; 8], "t=1", all_values());
    let event = span::Event {
        time_unix_nano: 3,
        name: "event".into(),
        attributes: all_values(),
        dropped_attributes_count: 4,
    };
    let link = span::Link {
        trace_id: trace_id.clone(),
        span_id: span_id.clone(),
        trace_state: trace_state.into(),
        attributes: all_values(),
        dropped_attributes_count: 5,
        flags: 6,
    };
    let span = Span {
        trace_id,
        span_id,
        trace_state: trace_state.into(),
        parent_span_id: vec![7; 8],
        flags: 0x101,
        name: "span".into(),
        kind: 3,
        start_time_unix_nano: 8,
        end_time_unix_nano: 9,
        attributes,
        dropped_attributes_count: 10,
        events: vec![event; 2],
        dropped_events_count: 11,
        links: vec![link],
        dropped_links_count: 12,
        status: Some(Status { message: "m".into(), code: 2 }),
    };
    let scope = ScopeSpans { scope: scope(), spans: vec![span; 2], schema_url: "u".into() };
    let resource = ResourceSpans { resource: resource(), scope_spans: vec![scope], schema_url: "v".into() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }
}

/// Their reader reads our JSON, and ours reads theirs and ours.
fn both_ways<M>(signal: Signal, message: &M, items: u64)
where
    M: Message + Default + PartialEq + Serialize + DeserializeOwned,
{
    let ours = Body { signal, bytes: message.encode_to_vec().into() }.to_json();
    assert!(&serde_json::from_slice::<M>(&ours).unwrap() == message);
    let theirs = serde_json::to_vec(message).unwrap();
    for json in [ours, theirs] {
        let encoded = encode(&[json]);
        let [request] = &encoded.requests[..] else { panic!("{:?}", encoded.rejected) };
        assert_eq!((request.body.signal, request.items), (signal, items));
        assert!(&M::decode(&request.body.bytes[..]).unwrap() == message);
    }
}

#[test]
fn every_field_both_ways() {
    both_ways(Signal::Metrics, &metrics(), (3 + 3 + 1 + 1 + 1) * 4);
    both_ways(Signal::Logs, &logs(), 3);
    both_ways(Signal::Traces, &traces(), 2);
}

#[test]
fn numbers_may_be_strings_and_enums_names() {
    let line = r#"{"resourceMetrics":[{"unknown":{"a":[1]},"resource":null,"scopeMetrics":[{"metrics":[{"name":"n",
        "sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
        {"timeUnixNano":5,"asDouble":"NaN"},{"timeUnixNano":"6","asDouble":"-Infinity"},{"asDouble":"1.5"},
        {"asInt":7},{"asInt":"-8"},{"asInt":9.0}]}}]}]}]}"#;
    let request = metrics_of(&[line]);
    let Some(Data::Sum(sum)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else {
        panic!()
    };
    assert_eq!(sum.aggregation_temporality, 1);
    let values: Vec<_> = sum.data_points.iter().map(|point| format!("{:?}", point.value.unwrap())).collect();
    let expected = ["AsDouble(NaN)", "AsDouble(-inf)", "AsDouble(1.5)", "AsInt(7)", "AsInt(-8)", "AsInt(9)"];
    assert_eq!(values, expected);
    let times: Vec<_> = sum.data_points.iter().map(|point| point.time_unix_nano).collect();
    assert_eq!(times, [5, 6, 0, 0, 0, 0]);
}

#[test]
fn an_invalid_line_is_refused_whole() {
    let point = |fields: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{"asInt":"1"}},{{{fields}}}]}}}}]}}]}}]}}"#
        )
    };
    for (fields, reason) in [
        (r#""asInt":"1.5e0""#, "asInt is \"1.5e0\""),
        (r#""asInt":1.5"#, "asInt is 1.5"),
        (r#""asInt":9223372036854775808"#, "asInt is 9223372036854775808"),
        (r#""timeUnixNano":-1"#, "timeUnixNano is -1"),
        (r#""asDouble":"much""#, "asDouble is \"much\""),
        (r#""flags":4294967296"#, "flags is 4294967296"),
        (r#""attributes":{"a":1}"#, "attributes is an object"),
        (r#""attributes":[1]"#, "attributes is an array with other elements than expected"),
        (r#""exemplars":[{"traceId":"xyz"}]"#, "traceId is \"xyz\""),
        (
            r#""exemplars":[{"filteredAttributes":[{"key":"b","value":{"bytesValue":"A"}}]}]"#,
            "bytesValue is \"A\"",
        ),
    ] {
        let encoded = encode(&[point(fields)]);
        assert_eq!(encoded.rejected, [(0, format!("OTLP/JSON: {reason}"))]);
        assert!(encoded.requests.is_empty());
    }
}

#[test]
fn otlp_json_and_records_share_a_request() {
    let ours = r#"{"ts":"2026-11-20T20:45:00Z","kind":"load","host":"h","load_1m":1}"#.to_owned();
    let theirs = String::from_utf8(serde_json::to_vec(&metrics()).unwrap()).unwrap();
    let nothing = r#"{"resourceMetrics":[{"resource":{}}]}"#.to_owned();
    let encoded = encode(&[theirs, nothing, ours]);
    assert_eq!((&encoded.rejected[..], &encoded.empty[..]), (&[][..], &[1][..]));
    let [request] = &encoded.requests[..] else { panic!() };
    assert_eq!((&request.lines[..], request.items), (&[0, 2][..], 37));
    let Request::Metrics(decoded) = decode(&request.body) else { panic!() };
    assert!(decoded.resource_metrics[1..] == metrics().resource_metrics);
    // The line that goes to stdout can be read again.
    let Request::Metrics(again) = decode(&encode(&[request.body.to_json()]).requests[0].body) else {
        panic!()
    };
    assert!(again == decoded);
}

/// A metrics line with one data point, which has these fields.
fn with_point(fields: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","sum":{{"dataPoints":[{{{fields}}}]}}}}]}}]}}]}}"#
    )
}

#[test]
fn integers_may_have_any_form_that_proto3_json_allows() {
    for (text, nanos) in [
        ("1.5447126603e18", 1_544_712_660_300_000_000),
        ("\"1.5447126603e18\"", 1_544_712_660_300_000_000),
        ("\"1544712660300000001\"", 1_544_712_660_300_000_001),
        ("\"15447126603000000010e-1\"", 1_544_712_660_300_000_001),
        ("1544712660300000001", 1_544_712_660_300_000_001),
        ("\"1.544712660300000001E+18\"", 1_544_712_660_300_000_001),
        ("\"18446744073709551615\"", u64::MAX),
        ("18446744073709551615", u64::MAX),
        ("1e3", 1000),
        ("\"1e3\"", 1000),
        ("\"1.000\"", 1),
        ("-0", 0),
        ("\"0e99\"", 0),
    ] {
        let request = metrics_of(&[with_point(&format!(r#""asInt":"1","timeUnixNano":{text}"#))]);
        let Some(Data::Sum(sum)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!()
        };
        assert_eq!(sum.data_points[0].time_unix_nano, nanos, "{text}");
    }
    for text in [
        "1.5",
        "\"1.5\"",
        "1.8446744073709552e19",
        "\"18446744073709551616\"",
        "\"1e20\"",
        "1e300",
        "-1",
        "\"-1e0\"",
        "\"\"",
        "\"-\"",
        "\"e3\"",
        "\"1e\"",
        "\" 1\"",
        "\"0x1\"",
        "\"1e99999\"",
        "true",
        "[1]",
        "{}",
    ] {
        let encoded = encode(&[with_point(&format!(r#""asInt":"1","timeUnixNano":{text}"#))]);
        assert!(encoded.requests.is_empty() && encoded.empty.is_empty(), "{text}");
        assert!(encoded.rejected[0].1.contains("timeUnixNano"), "{text}: {:?}", encoded.rejected);
    }
}

#[test]
fn field_names_may_be_those_of_the_proto_files() {
    let line = r#"{"resource_metrics":[{"resource":{"attributes":[{"key":"a","value":{"string_value":"b"}}],
        "dropped_attributes_count":1},"schema_url":"u","scope_metrics":[{"metrics":[{"name":"h",
        "exponential_histogram":{"aggregation_temporality":"AGGREGATION_TEMPORALITY_DELTA","data_points":[{
        "start_time_unix_nano":"1","time_unix_nano":2,"count":"3","zero_count":1,"zero_threshold":0.5,
        "positive":{"offset":4,"bucket_counts":["2"]}}]}}]}]}]}"#;
    let request = metrics_of(&[line]);
    let resource = &request.resource_metrics[0];
    let about = resource.resource.as_ref().unwrap();
    assert_eq!((attributes(&about.attributes), about.dropped_attributes_count), (json!({"a": "b"}), 1));
    let metric = &resource.scope_metrics[0].metrics[0];
    let Some(Data::ExponentialHistogram(of)) = &metric.data else { panic!("{metric:?}") };
    let point = &of.data_points[0];
    let times = (point.start_time_unix_nano, point.time_unix_nano);
    assert_eq!((of.aggregation_temporality, times), (1, (1, 2)));
    assert_eq!((point.count, point.zero_count, point.zero_threshold), (3, 1, 0.5));
    assert_eq!(point.positive, Some(Buckets { offset: 4, bucket_counts: vec![2] }));
    let logs = r#"{"resource_logs":[{"scope_logs":[{"log_records":[{"severity_number":"SEVERITY_NUMBER_WARN",
        "trace_id":"0102030405060708090a0b0c0d0e0f10","span_id":"AQIDBAUGBwg="}]}]}]}"#;
    let Request::Logs(logs) = decode(&encode(&[logs]).requests[0].body) else { panic!() };
    let record = &logs.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.trace_id.len()), (13, 16));
    assert_eq!(record.span_id, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// Every line is sent, refused with a reason that names the fault, or empty.
#[test]
fn no_line_is_dropped_silently() {
    let logs = r#""resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]"#;
    let spans = r#""resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]"#;
    let sent = |line: String, signal| {
        let encoded = encode(std::slice::from_ref(&line));
        let [request] = &encoded.requests[..] else { panic!("{line}: {:?}", encoded.rejected) };
        assert_eq!((request.body.signal, request.items, encoded.empty.len()), (signal, 1, 0), "{line}");
    };
    sent(format!(r#"{{"resourceMetrics":[],{logs}}}"#), Signal::Logs);
    sent(format!(r#"{{{spans},"resourceMetrics":[],"resource_logs":[]}}"#), Signal::Traces);
    sent(format!(r#"{{{spans},"resourceMetrics":null,"unknown":[1]}}"#), Signal::Traces);
    for line in [
        r#"{"resourceMetrics":[]}"#,
        r#"{"resourceMetrics":null}"#,
        r#"{"resource_spans":[],"resourceLogs":[]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[]}}]}]}]}"#,
        r#"{"ts":"2026-11-20T20:45:00Z","kind":"load","host":"h","load_1m":null}"#,
    ] {
        let encoded = encode(&[line]);
        assert_eq!(
            (&encoded.empty[..], encoded.requests.len(), encoded.rejected.len()),
            (&[0][..], 0, 0),
            "{line}"
        );
    }
    for (line, named) in [
        (format!("{{{logs},{spans}}}"), "resourceSpans"),
        (format!(r#"{{{logs},"resource_logs":[]}}"#), "resourceLogs"),
        (format!(r#"{{{logs},"resourceSpans":{{}}}}"#), "resourceSpans"),
        (
            r#"{"resourceMetrics":[{"instrumentationLibraryMetrics":[{}]}]}"#.into(),
            "instrumentationLibraryMetrics",
        ),
        (r#"{"resourceSpans":[{"scopeSpans":[{"span":[{"name":"x"}]}]}]}"#.into(), "span"),
        (r#"{"resourceSpans":[null]}"#.into(), "resourceSpans"),
    ] {
        let encoded = encode(&[&line]);
        assert!(encoded.requests.is_empty() && encoded.empty.is_empty(), "{line}");
        assert!(encoded.rejected[0].1.contains(named), "{line}: {:?}", encoded.rejected);
    }
}

#[test]
fn ids_have_the_length_that_the_collector_requires() {
    for (id, bytes) in [("\"0102030405060708\"", 8), ("\"AQIDBAUGBwg\"", 8), ("\"\"", 0), ("null", 0)] {
        let line = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"spanId":{id}}}]}}]}}]}}"#);
        let Request::Traces(traces) = decode(&encode(&[line]).requests[0].body) else { panic!() };
        assert_eq!(traces.resource_spans[0].scope_spans[0].spans[0].span_id.len(), bytes, "{id}");
    }
    for id in ["\"01\"", "\"010203040506070809\"", "\"0102030405060708090a0b0c0d0e0f10\"", "\"x\"", "7"] {
        let line = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"spanId":{id}}}]}}]}}]}}"#);
        assert!(encode(&[line]).rejected[0].1.contains("spanId"), "{id}");
    }
}
