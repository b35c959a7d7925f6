//! Interprets the responses of OTLP/HTTP servers.
//!
//! OTLP 1.x, "OTLP/HTTP Response" and "Retryable Response Codes": success may be partial; 429, 502, 503 and 504 ask
//! to try again; everything else is final. Two more are retried, since they are no fault of the lines: 407, which
//! comes from a proxy, and redirects, which are not followed.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use serde_json::Value;

use crate::common::diag::escaped;
use crate::common::time::Timestamp;
use crate::ship::Verdict;
use crate::ship::retry_after::retry_after;

/// The parts of a response that matter.
#[derive(Default)]
pub struct HttpAnswer<'a> {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// The `Location` header, as a URL without credentials.
    pub location: Option<String>,
    /// Whether the body is JSON.
    pub json: bool,
    /// The body, or its beginning.
    pub body: &'a [u8],
}

/// `google.rpc.Status`, the body of a failure.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// The gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The message for developers.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Further messages, of any type.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Detail {
    /// The type: a URL that ends in its name.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Status {
    /// The delay in its `RetryInfo`, if there is one. No delay, or a negative one, is none at all.
    pub fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
        let Delay { seconds, nanos } = RetryInfo::decode(&*info.value).ok()?.retry_delay.unwrap_or_default();
        let whole = u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs);
        Some(whole + u64::try_from(nanos).map_or(Duration::ZERO, Duration::from_nanos))
    }
}

impl HttpAnswer<'_> {
    /// What to do next. `server` opens the reason; a date in `Retry-After` is relative to `now`.
    pub fn verdict(&self, server: &str, now: Timestamp) -> Verdict {
        if (200..300).contains(&self.status) {
            let strange = || strange(&self.status.to_string(), self.body);
            if self.body.trim_ascii_start().starts_with(b"<") {
                return Verdict::Retry { after: None, reason: format!("{server}: {}", strange()) };
            }
            let (rejected_items, message) = self.partial().unwrap_or_else(|| (0, Some(strange())));
            return Verdict::Delivered { rejected_items, message };
        }
        let message = self.message();
        let reason = match message.as_str() {
            "" => format!("{server} answers {}", self.status),
            message => format!("{server} answers {}: {message}", self.status),
        };
        match self.status {
            300..400 => {
                let (status, hint) =
                    (self.status, "redirects are not followed, give the URL that takes the data");
                let to = self.location.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
                Verdict::Retry { after: None, reason: format!("{server} redirects{to} ({status}); {hint}") }
            }
            407 | 429 | 502 | 503 | 504 => {
                let after = self.retry_after.and_then(|text| retry_after(text, now));
                Verdict::Retry { after, reason }
            }
            413 => Verdict::Split { reason },
            // Go's http.MaxBytesReader, which the Collector reports as a bad request.
            400 if message.contains("request body too large") => Verdict::Split { reason },
            _ => Verdict::Reject { reason },
        }
    }

    fn partial(&self) -> Option<(u64, Option<String>)> {
        if !self.json {
            return partial_success(self.body);
        }
        let answer = match serde_json::from_slice::<Value>(self.body) {
            Err(_) if !self.body.trim_ascii().is_empty() => return None,
            answer => answer.unwrap_or_default(),
        };
        let partial = &answer["partialSuccess"];
        let names = ["rejectedDataPoints", "rejectedLogRecords", "rejectedSpans"];
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let rejected = names.iter().find_map(|name| number(&partial[*name])).unwrap_or(0);
        Some(refused(rejected, partial["errorMessage"].as_str().unwrap_or("")))
    }

    /// The message of a failure, on one line.
    fn message(&self) -> String {
        if self.json {
            let answer = serde_json::from_slice::<Value>(self.body).unwrap_or_default();
            match answer["message"].as_str().unwrap_or_default() {
                "" => text(self.body),
                message => one_line(message),
            }
        } else {
            failure(self.body)
        }
    }
}

/// `partial_success` of a response, which has the same field numbers for every signal: the number of refused items, and
/// the server's message. `None` if it is not a response.
pub fn partial_success(body: &[u8]) -> Option<(u64, Option<String>)> {
    let partial = ExportMetricsServiceResponse::decode(body).ok()?.partial_success.unwrap_or_default();
    Some(refused(partial.rejected_data_points, &partial.error_message))
}

fn refused(items: i64, message: &str) -> (u64, Option<String>) {
    (u64::try_from(items).unwrap_or(0), Some(message.to_owned()).filter(|message| !message.is_empty()))
}

/// Describes a success that no OTLP server sends, such as the login page of a proxy.
pub fn strange(status: &str, body: &[u8]) -> String {
    format!("its {status} is not the answer of an OTLP server: {}", failure(body))
}

/// The message of a failure in protobuf, or the body as text.
fn failure(body: &[u8]) -> String {
    match Status::decode(body) {
        Ok(status) if !status.message.is_empty() => one_line(&status.message),
        _ => text(body),
    }
}

fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { one_line(&without_tags(&text)) } else { one_line(&text) }
}

/// At most 200 characters, without line breaks.
pub fn one_line(text: &str) -> String {
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "), 200)
}

/// The text of an HTML page, roughly: servers and proxies that do not know OTLP answer with one.
fn without_tags(page: &str) -> String {
    let after_tag = |part: &str| part.split_once('>').map_or(" ".to_owned(), |(_, text)| format!(" {text}"));
    page.split('<').skip(1).map(after_tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT

    fn verdict(status: u16, json: bool, body: &[u8]) -> Verdict {
        HttpAnswer { status, json, body, ..HttpAnswer::default() }.verdict("server", NOW)
    }

    #[test]
    fn statuses() {
        for status in [407, 429, 502, 503, 504] {
            assert!(matches!(verdict(status, false, b""), Verdict::Retry { after: None, .. }), "{status}");
        }
        for status in [400, 401, 403, 404, 408, 415, 500, 501, 505] {
            assert!(matches!(verdict(status, false, b""), Verdict::Reject { .. }), "{status}");
        }
        assert!(matches!(verdict(413, false, b""), Verdict::Split { .. }));
        assert!(matches!(verdict(400, false, b"http: request body too large"), Verdict::Split { .. }));
        assert_eq!(verdict(200, false, b""), Verdict::DELIVERED);
        assert_eq!(verdict(202, true, b"{}"), Verdict::DELIVERED);
    }

    #[test]
    fn redirects_wait_for_another_url() {
        let location = Some("https://elsewhere/v1/logs".to_owned());
        for status in [301, 302, 307, 308] {
            let answer = HttpAnswer { status, location: location.clone(), ..HttpAnswer::default() };
            let Verdict::Retry { after: None, reason } = answer.verdict("server", NOW) else {
                panic!("{status}")
            };
            assert!(reason.contains("https://elsewhere/v1/logs") && reason.contains(&status.to_string()));
        }
    }

    #[test]
    fn waiting_times() {
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ] {
            let after = retry_after(text, NOW);
            assert_eq!(after, expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn partial_success_in_both_encodings() {
        let refused = |rejected_items, message: &str| Verdict::Delivered {
            rejected_items,
            message: Some(message.into()),
        };
        // ExportMetricsServiceResponse by hand: field 1, of it field 1 = 3 and field 2 = "no".
        assert_eq!(verdict(200, false, b"\x0a\x06\x08\x03\x12\x02no"), refused(3, "no"));
        assert_eq!(verdict(200, false, b"\x0a\x04\x12\x02hm"), refused(0, "hm"));
        let json = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no"}}"#;
        assert_eq!(verdict(200, true, json), refused(3, "no"));
        let json = br#"{"partialSuccess":{"rejectedDataPoints":7}}"#;
        assert_eq!(verdict(200, true, json), Verdict::Delivered { rejected_items: 7, message: None });
        for json in [false, true] {
            let reason = "server: its 200 is not the answer of an OTLP server: Log in".into();
            assert_eq!(verdict(200, json, b" <html>Log in</html>"), Verdict::Retry { after: None, reason });
            let expected = refused(0, "its 200 is not the answer of an OTLP server: hello");
            assert_eq!(verdict(200, json, b"hello"), expected);
            assert_eq!(verdict(200, json, b""), Verdict::DELIVERED);
        }
    }

    #[test]
    fn reasons() {
        let reason = |json, body| match verdict(400, json, body) {
            Verdict::Reject { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(false, b""), "server answers 400");
        assert_eq!(reason(false, b"\x08\x03\x12\x07bad\none"), "server answers 400: bad one");
        assert_eq!(reason(true, br#"{"code":3,"message":"bad"}"#), "server answers 400: bad");
        assert_eq!(reason(false, b"<html>\n no </html>"), "server answers 400: no");
    }
}
