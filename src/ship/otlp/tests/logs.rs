//! Log records: from event kinds, `log` and `snapshot` records, and other objects.

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::json;

use super::*;

const TS: &str = "2026-11-20T20:45:00.123456789Z";
const TS_NANOS: u64 = 1_795_207_500_123_456_789;

fn log_of(line: &str) -> LogRecord {
    let encoded = encode(&[line]);
    assert_eq!(encoded.rejected, []);
    assert_eq!((encoded.requests[0].items, &encoded.requests[0].lines[..]), (1, &[0][..]));
    let Request::Logs(mut logs) = decode(&encoded.requests[0].body) else { panic!("not logs") };
    let mut records = logs.resource_logs.remove(0).scope_logs.remove(0).log_records;
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn an_event_has_its_fields_as_attributes() {
    let line = format!(
        r#"{{"ts":"{TS}","kind":"status","host":"h","source":"/proc/x","reason":"denied","detail":"be root","n":null}}"#
    );
    let log = log_of(&line);
    assert_eq!((log.time_unix_nano, log.observed_time_unix_nano), (TS_NANOS, TS_NANOS));
    assert_eq!((log.severity_number, &*log.severity_text, &*log.event_name), (9, "INFO", "status"));
    let expected = json!({"source": "/proc/x", "reason": "denied", "detail": "be root"});
    assert_eq!((attributes(&log.attributes), log.body), (expected, None));
}

#[test]
fn a_log_record_keeps_its_fields() {
    let line = format!(
        r#"{{"ts":"{TS}","kind":"log","host":"h","severity":"Warning","body":"disk \"full\"","attributes":{{"n":1}}}}"#
    );
    let log = log_of(&line);
    assert_eq!((log.time_unix_nano, log.severity_number, &*log.severity_text), (TS_NANOS, 13, "Warning"));
    assert_eq!(plain(log.body.as_ref()), json!("disk \"full\""));
    assert_eq!((attributes(&log.attributes), &*log.event_name), (json!({"n": 1}), ""));
    for (severity, number) in [("error3", 19), ("TRACE", 1), ("notice", 10), ("fatal4", 24), ("loud", 0)] {
        let log = log_of(&format!(r#"{{"kind":"log","severity":"{severity}"}}"#));
        assert_eq!((log.severity_number, &*log.severity_text), (number, severity));
    }
}

#[test]
fn any_other_object_is_the_body() {
    let object = json!({"msg": "hé\u{1}", "level": "error", "a": [1, -2.5, null, [true]], "m": {"x": {"y": "z"}},
        "time": TS, "big": u64::MAX, "kind": "disk"});
    let log = log_of(&object.to_string());
    let mut expected = object;
    // By the specification, integers outside i64 are strings of digits.
    expected["big"] = json!(u64::MAX.to_string());
    assert_eq!(plain(log.body.as_ref()), expected);
    assert_eq!((log.time_unix_nano, log.severity_number, &*log.severity_text), (TS_NANOS, 17, "error"));
    let empty = log_of("{}");
    assert_eq!((plain(empty.body.as_ref()), empty.time_unix_nano), (json!({}), 0));
    assert!(empty.observed_time_unix_nano > TS_NANOS - 31_536_000_000_000_000 * 10);
}

/// By multiples of the record's threshold, or else of the default.
#[test]
fn the_severity_of_an_event_depends_on_its_threshold() {
    for (kind, field, took, threshold, severity) in [
        ("syscall", "duration_us", 10_000.0, Some(10_000.0), "INFO"),
        ("syscall", "duration_us", 99_999.999, None, "INFO"),
        ("syscall", "duration_us", 100_000.0, None, "WARN"),
        ("syscall", "duration_us", 9_999.0, None, "DEBUG"),
        ("syscall", "duration_us", 9_999.0, Some(99.99), "ERROR"),
        ("syscall", "duration_us", 0.7, Some(0.07), "WARN"),
        ("io_event", "total_us", 150_000.0, None, "WARN"),
        ("io_event", "total_us", 150_000.0, Some(1000.0), "ERROR"),
        ("io_event", "total_us", 150_000.0, Some(100_000.0), "INFO"),
        ("io_event", "total_us", 5.0, Some(0.0), "INFO"),
        ("runq_event", "duration_us", 30_000.0, Some(1000.0), "WARN"),
        ("runq_event", "duration_us", 30_000.0, None, "INFO"),
        ("pagefault", "duration_us", 20.0, Some(100.0), "INFO"),
        ("pagefault", "duration_us", 20_000.0, None, "WARN"),
        ("pagefault", "duration_us", 20_000.0, Some(2.0), "ERROR"),
    ] {
        let line = json!({"ts": TS, "kind": kind, "host": "h", field: took, "threshold_us": threshold});
        assert_eq!(log_of(&line.to_string()).severity_text, severity, "{line}");
    }
}

#[test]
fn the_data_of_a_snapshot_is_the_body() {
    let line = format!(
        r#"{{"ts":"{TS}","kind":"snapshot","host":"h","url":"http://x/y","data":{{"a":{{"b":[1]}}}}}}"#
    );
    let log = log_of(&line);
    assert_eq!((plain(log.body.as_ref()), &*log.event_name), (json!({"a": {"b": [1]}}), "snapshot"));
    assert_eq!(attributes(&log.attributes), json!({"url.full": "http://x/y"}));
}

#[test]
fn unknown_fields_of_a_log_record_become_attributes() {
    let log = log_of(concat!(
        r#"{"kind":"log","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"nonsense","user":"u","#,
        r#""n":null,"tags":[1],"attributes":{"user":"first"}}"#
    ));
    assert_eq!(log.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
    assert_eq!((log.trace_id.len(), log.span_id.len()), (16, 0));
    assert_eq!(attributes(&log.attributes), json!({"user": "first", "span_id": "nonsense", "tags": [1]}));
}

#[test]
fn an_invalid_log_record_is_refused() {
    for (fields, reason) in [
        (r#""kind":"log","severity":25"#, "severity is neither a name nor a number from 1 to 24"),
        (r#""kind":"log","severity":["warn"]"#, "severity is neither a name nor a number from 1 to 24"),
        (r#""kind":"log","host":["h"]"#, "host is not a string"),
        (r#""kind":"snapshot","url":7"#, "url is not a string"),
    ] {
        assert_eq!(encode(&[format!("{{{fields}}}")]).rejected, [(0, reason.to_owned())]);
    }
    // `attributes` of another type is an attribute itself.
    let log = log_of(r#"{"kind":"log","severity":17,"attributes":["a"]}"#);
    assert_eq!((log.severity_number, attributes(&log.attributes)), (17, json!({"attributes": ["a"]})));
}

#[test]
fn a_record_without_known_fields_is_kept_whole() {
    let line = json!({"ts": TS, "kind": "load", "loadavg": 1});
    let log = log_of(&line.to_string());
    assert_eq!((plain(log.body.as_ref()), log.time_unix_nano), (line, TS_NANOS));
}
