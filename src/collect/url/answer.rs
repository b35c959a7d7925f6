//! Turns the answer of an endpoint into records. The content type and the first
//! character decide on the format.

use std::borrow::Cow;

use anyhow::Result;
use serde_json::value::RawValue;

use crate::collect::{Failure, Sample, prometheus};
use crate::common::emit::Emitter;
use crate::record::{Attributes, MAX_LINE, METRIC, MetricPoint, Reason, Snapshot};

/// How records name an endpoint.
pub struct Endpoint {
    /// The URL without user name and password.
    pub url: String,
    /// `host:port`: the instance, in the terms of Prometheus.
    pub instance: String,
}

/// The response of an endpoint.
pub struct Answer {
    /// The header `Content-Type`; empty if there is none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Prometheus,
    OpenMetrics,
    Json,
}

fn format(content_type: &str, text: &str) -> Format {
    let content_type = content_type.to_ascii_lowercase();
    let essence = content_type.split(';').next().unwrap_or("").trim();
    match essence {
        "application/openmetrics-text" => Format::OpenMetrics,
        "application/json" => Format::Json,
        "text/plain" if content_type.contains("version=0.0.4") => Format::Prometheus,
        _ if essence.ends_with("+json") || text.trim_start().starts_with(['{', '[']) => Format::Json,
        _ if text.trim_end().ends_with("\n# EOF") => Format::OpenMetrics,
        _ => Format::Prometheus,
    }
}

/// Emits the records of an answer.
///
/// # Errors
/// The outer error: stdout failed. The inner error: the answer is of no use.
pub fn write(
    endpoint: &Endpoint,
    answer: &Answer,
    sample: &Sample<'_>,
    out: &mut Emitter,
) -> Result<Result<(), Failure>> {
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    let text = String::from_utf8_lossy(body);
    match format(&answer.content_type, &text) {
        Format::Json => snapshot(endpoint, &text, sample, out),
        format => metrics(endpoint, &text, format == Format::OpenMetrics, sample, out),
    }
}

fn metrics(
    endpoint: &Endpoint,
    text: &str,
    openmetrics: bool,
    sample: &Sample<'_>,
    out: &mut Emitter,
) -> Result<Result<(), Failure>> {
    let tally = prometheus::read(text, openmetrics, &mut |ts, mut point: MetricPoint| {
        if !sample.wants(&METRIC) {
            return Ok(());
        }
        point.attributes = with_instance(point.attributes, &endpoint.instance);
        out.emit(ts.unwrap_or(sample.ts), &point)
    })?;
    let first = tally.first_bad.unwrap_or_default();
    if tally.bad > 0 && tally.points == 0 {
        let detail = format!("the answer is neither Prometheus text nor JSON: {first}");
        return Ok(Err(Failure::new(Reason::Invalid, detail)));
    }
    if tally.cut_short {
        let detail = "OpenMetrics text without # EOF at its end: it was cut off";
        out.status(sample.ts, &endpoint.url, Reason::Invalid, detail)?;
    }
    if tally.bad > 0 {
        let source = format!("{}: lines", endpoint.url);
        let detail = format!("malformed lines are left out; the first is {first}");
        out.status(sample.ts, &source, Reason::Invalid, &detail)?;
        out.lost(sample.ts, &source, tally.bad)?;
    }
    if tally.not_finite > 0 {
        let source = format!("{}: values", endpoint.url);
        let detail = "NaN and infinite values are left out, as JSON cannot represent them";
        out.status(sample.ts, &source, Reason::Unsupported, detail)?;
        out.lost(sample.ts, &source, tally.not_finite)?;
    }
    Ok(Ok(()))
}

/// Adds `instance`. If the exporter has a label of that name, it becomes
/// `exported_instance`, as in Prometheus.
fn with_instance(labels: Attributes, instance: &str) -> Attributes {
    let mut attributes = Attributes::with_capacity(labels.len() + 1);
    attributes.insert("instance".into(), instance.into());
    for (key, value) in labels {
        let key = if key == "instance" { "exported_instance".to_owned() } else { key };
        attributes.insert(key, value);
    }
    attributes
}

fn snapshot(
    endpoint: &Endpoint,
    text: &str,
    sample: &Sample<'_>,
    out: &mut Emitter,
) -> Result<Result<(), Failure>> {
    let compact = compact(text);
    if compact.len() > MAX_LINE {
        let source = format!("{}: answers over 1 MiB", endpoint.url);
        let detail = format!("the answer has {} bytes of JSON; a line is limited to 1 MiB", compact.len());
        out.status(sample.ts, &source, Reason::Unsupported, &detail)?;
        out.lost(sample.ts, &source, 1)?;
        return Ok(Ok(()));
    }
    // Parsing proves that the JSON is valid, its nesting limited, its surrogates in pairs.
    // The record has the original text, with every digit.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        return Ok(Err(Failure::new(Reason::Invalid, format!("the answer is not JSON: {error}"))));
    }
    let data = RawValue::from_string(compact.into_owned())?;
    sample.emit(&Snapshot { url: endpoint.url.clone(), data }, out)?;
    Ok(Ok(()))
}

/// Removes the white space between the tokens of JSON, so that it is one line.
fn compact(text: &str) -> Cow<'_, str> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    if !text.contains(space) {
        return Cow::Borrowed(text);
    }
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|&c| {
        let keep = in_string || !space(c);
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        keep
    });
    Cow::Owned(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn formats() {
        for (content_type, text, expected) in [
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "{\"a.b\"} 1",
                Format::OpenMetrics,
            ),
            ("text/plain; version=0.0.4; charset=utf-8", "{\"a.b\"} 1", Format::Prometheus),
            ("Application/JSON; charset=utf-8", "1", Format::Json),
            ("application/health+json", "1", Format::Json),
            ("text/plain", " \n[1]", Format::Json),
            ("", "{}", Format::Json),
            ("text/plain; charset=utf-8", "a 1\n", Format::Prometheus),
            ("", "a 1\n# EOF\n", Format::OpenMetrics),
            ("", "", Format::Prometheus),
        ] {
            assert_eq!(format(content_type, text), expected, "{content_type} {text}");
        }
    }

    #[test]
    fn a_label_called_instance_moves() {
        let labels = Attributes::from_iter([("instance".into(), "a".into()), ("x".into(), "1".into())]);
        let moved = serde_json::to_string(&with_instance(labels, "h:9100")).unwrap();
        assert_eq!(moved, r#"{"instance":"h:9100","exported_instance":"a","x":"1"}"#);
    }

    #[test]
    fn compacting_keeps_digits_and_strings() {
        let text = "{ \"a b\\\" c\\\\\" : [ 1.10 ,\r\n\t12345678901234567890123 ] , \"x\" : \" \" }";
        assert_eq!(compact(text), r#"{"a b\" c\\":[1.10,12345678901234567890123],"x":" "}"#);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC*|[\\\\\" \n\t]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec(("[ \\\\\"a]{0,4}", inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn pretty_json_compacts_to_what_serde_json_writes(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty).into_owned(), serde_json::to_string(&value).unwrap());
        }
    }
}
