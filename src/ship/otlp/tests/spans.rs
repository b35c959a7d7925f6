//! `span` records.

use serde_json::json;

use super::*;

const LINE: &str = r#"{"ts":"2026-11-20T20:45:01Z","kind":"span","host":"h","name":"check",
    "trace_id":"0af7651916cd43dd8448eb211c80319C","span_id":"b7ad6b7169203331","parent_span_id":"00f067aa0ba902b7",
    "begin_ts":"2026-11-20T20:45:00.5Z","status":"error","status_message":"no","attributes":{"a":true},
    "span_kind":"client","trace_state":"k=v","resource":{"service.name":"db","host.name":"other"},
    "events":[{"ts":"2026-11-20T20:45:00.75Z","name":"retry","attributes":{"n":2}},
              {"ts":"2026-11-20T20:45:00.8Z","name":"done"}],
    "links":[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b8","trace_state":"x=y",
              "attributes":{"why":"batch"}}]}"#;

#[test]
fn every_field_is_sent() {
    let encoded = encode(&[LINE]);
    assert_eq!(encoded.rejected, []);
    let Request::Traces(traces) = decode(&encoded.requests[0].body) else { panic!("not spans") };
    let resource = attributes(&traces.resource_spans[0].resource.as_ref().unwrap().attributes);
    assert_eq!((&resource["service.name"], &resource["host.name"]), (&json!("db"), &json!("other")));
    assert_eq!((&resource["host.id"], &resource["telemetry.sdk.name"]), (&json!(null), &json!("telepipe")));
    let span = &traces.resource_spans[0].scope_spans[0].spans[0];
    let trace_id = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();
    assert_eq!(span.trace_id, trace_id);
    assert_eq!(span.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    let (begin, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!((begin, end), (1_795_207_500_500_000_000, 1_795_207_501_000_000_000));
    assert_eq!((&*span.name, span.kind, attributes(&span.attributes)), ("check", 3, json!({"a": true})));
    assert_eq!(span.trace_state, "k=v");
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "no"));
    let events: Vec<_> = span
        .events
        .iter()
        .map(|event| (event.time_unix_nano, &*event.name, attributes(&event.attributes)))
        .collect();
    let retry = (1_795_207_500_750_000_000, "retry", json!({"n": 2}));
    assert_eq!(events, [retry, (1_795_207_500_800_000_000, "done", json!({}))]);
    let [link] = &span.links[..] else { panic!("{:?}", span.links) };
    assert_eq!(link.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(link.span_id, 0x00f0_67aa_0ba9_02b8_u64.to_be_bytes());
    assert_eq!((&*link.trace_state, attributes(&link.attributes)), ("x=y", json!({"why": "batch"})));
    let record: crate::record::Span = serde_json::from_str(LINE).unwrap();
    assert_eq!((record.events.len(), record.links.len(), record.resource.len()), (2, 1, 2));
    assert_eq!(
        (record.trace_state.as_deref(), record.links[0].trace_state.as_deref()),
        (Some("k=v"), Some("x=y"))
    );
    // The same comes back from a line of OTLP/JSON.
    let again = encode(&[encoded.requests[0].body.to_json()]);
    let Request::Traces(again) = decode(&again.requests[0].body) else { panic!("not spans") };
    assert_eq!(again, traces);
}

#[test]
fn span_kinds_are_those_of_otlp() {
    for (kind, number) in [("internal", 1), ("server", 2), ("client", 3), ("producer", 4), ("consumer", 5)] {
        let encoded = encode(&[LINE.replace("client", kind)]);
        let Request::Traces(traces) = decode(&encoded.requests[0].body) else { panic!("not spans") };
        assert_eq!(traces.resource_spans[0].scope_spans[0].spans[0].kind, number);
    }
}

#[test]
fn an_invalid_span_is_refused_and_the_reason_names_the_field() {
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
        ("\"error\"", "\"Error\"", "status is `Error`"),
        ("\"error\"", "2", "status is not a string"),
        ("\"no\"", "{}", "status_message is not a string"),
        ("{\"a\":true}", "[true]", "attributes is not a map"),
        ("client", "peer", "span_kind is `peer`"),
        ("\"retry\"", "7", "events[0]: name is not a string"),
        ("2026-11-20T20:45:00.8Z", "soon", "events[1]: ts is not an RFC 3339 time"),
        ("00f067aa0ba902b8", "00", "links[0]: span_id is not 16 hexadecimal digits"),
        ("\"links\":[", "\"links\":[1,", "links[0] is not a map"),
        ("\"events\":[", "\"events\":7,\"x\":[", "events is not an array"),
        ("{\"service.name\"", "[],\"x\":{\"service.name\"", "resource is not a map"),
    ] {
        let encoded = encode(&[LINE.replace(whole, broken)]);
        assert_eq!((encoded.requests.len(), encoded.rejected.len()), (0, 1), "{broken}");
        assert!(encoded.rejected[0].1.starts_with(reason), "{:?} is not {reason}", encoded.rejected);
    }
}
