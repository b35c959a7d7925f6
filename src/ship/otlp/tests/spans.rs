//! `span` records.

use serde_json::json;

use super::*;

const LINE: &str = r#"{"ts":"2026-11-20T20:45:01Z","kind":"span","host":"h","name":"check",
    "trace_id":"0af7651916cd43dd8448eb211c80319C","span_id":"b7ad6b7169203331","parent_span_id":"00f067aa0ba902b7",
    "begin_ts":"2026-11-20T20:45:00.5Z","status":"error","status_message":"no","attributes":{"a":true}}"#;

#[test]
fn a_span_says_what_it_says() {
    let encoded = encode(&[LINE]);
    assert_eq!(encoded.rejected, []);
    let Request::Traces(traces) = decode(&encoded.requests[0].body) else { panic!("not spans") };
    let span = &traces.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(span.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    let (begin, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!((begin, end), (1_795_207_500_500_000_000, 1_795_207_501_000_000_000));
    assert_eq!((&*span.name, span.kind, attributes(&span.attributes)), ("check", 1, json!({"a": true})));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "no"));
}

#[test]
fn half_a_span_is_refused() {
    for (whole, broken, reason) in [
        ("\"check\"", "5", "name is not a string"),
        ("b7ad6b7169203331", "b7ad6b716920333", "span_id is not 16 hexadecimal digits"),
        ("b7ad6b7169203331", "0000000000000000", "span_id is not 16 hexadecimal digits"),
        ("\"00f067aa0ba902b7\"", "7", "parent_span_id is not a string"),
        ("0af7651916cd43dd8448eb211c80319C", "é", "trace_id is not 32 hexadecimal digits"),
        ("trace_id", "trace", "trace_id is missing"),
        ("2026-11-20T20:45:00.5Z", "yesterday", "begin_ts is not an RFC 3339 time"),
        ("2026-11-20T20:45:00.5Z", "2026-11-20T20:45:01.1Z", "begin_ts is after ts"),
        ("begin_ts", "begun", "begin_ts is missing"),
        ("error", "Error", "status is `Error`, which is none of unset, ok, error"),
        ("\"error\"", "2", "status is not a string"),
        ("\"no\"", "{}", "status_message is not a string"),
        ("{\"a\":true}", "[true]", "attributes is not a map"),
    ] {
        let encoded = encode(&[LINE.replace(whole, broken)]);
        assert_eq!((encoded.requests.len(), encoded.rejected.len()), (0, 1), "{broken}");
        assert!(encoded.rejected[0].1.starts_with(reason), "{:?} is not {reason}", encoded.rejected);
    }
}
