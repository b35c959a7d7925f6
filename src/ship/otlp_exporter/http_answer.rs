//! Interprets the responses of OTLP/HTTP servers.
//!
//! OTLP 1.x, "OTLP/HTTP Response" and "Retryable Response Codes": success may be partial; 429, 502, 503 and 504 ask
//! to try again; everything else is final. 407 is retried too: it comes from a proxy, and is no fault of the lines.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use serde_json::Value;

use crate::common::time::Timestamp;
use crate::ship::Verdict;

/// The parts of a response that matter.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// Whether the body is JSON.
    pub json: bool,
    /// The body, or its beginning.
    pub body: &'a [u8],
}

/// `google.rpc.Status`, the body of a failure.
#[derive(Clone, PartialEq, Eq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Answer<'_> {
    /// What to do next. `server` opens the reason; a date in `Retry-After` is relative to `now`.
    pub fn verdict(&self, server: &str, now: Timestamp) -> Verdict {
        if (200..300).contains(&self.status) {
            if self.body.trim_ascii_start().starts_with(b"<") {
                return Verdict::Retry { after: None, reason: format!("{server}: {}", self.strange()) };
            }
            let (rejected_items, message) = self.partial();
            return Verdict::Delivered { rejected_items, message };
        }
        let message = self.message();
        let reason = match message.as_str() {
            "" => format!("{server} answers {}", self.status),
            message => format!("{server} answers {}: {message}", self.status),
        };
        match self.status {
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

    /// `partial_success`, which has the same field numbers for every signal.
    fn partial(&self) -> (u64, Option<String>) {
        let (rejected, message) = if self.json {
            let answer = match serde_json::from_slice::<Value>(self.body) {
                Err(_) if !self.body.trim_ascii().is_empty() => return (0, Some(self.strange())),
                answer => answer.unwrap_or_default(),
            };
            let partial = &answer["partialSuccess"];
            let names = ["rejectedDataPoints", "rejectedLogRecords", "rejectedSpans"];
            let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
            let rejected = names.iter().find_map(|name| number(&partial[*name])).unwrap_or(0);
            (rejected, partial["errorMessage"].as_str().unwrap_or("").to_owned())
        } else {
            let Ok(answer) = ExportMetricsServiceResponse::decode(self.body) else {
                return (0, Some(self.strange()));
            };
            let partial = answer.partial_success.unwrap_or_default();
            (partial.rejected_data_points, partial.error_message)
        };
        (u64::try_from(rejected).unwrap_or(0), Some(message).filter(|message| !message.is_empty()))
    }

    /// Describes a success that no OTLP server sends, such as the login page of a proxy.
    fn strange(&self) -> String {
        format!("its {} is not the answer of an OTLP server: {}", self.status, self.message())
    }

    /// The message of a failure, on one line.
    fn message(&self) -> String {
        let json = || serde_json::from_slice::<Value>(self.body).ok();
        let text = if self.json {
            json().and_then(|answer| Some(answer["message"].as_str()?.to_owned()))
        } else {
            Status::decode(self.body).ok().map(|status| status.message)
        };
        let text = text.filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(self.body).into_owned());
        let text = if text.trim_start().starts_with('<') { without_tags(&text) } else { text };
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
    }
}

/// The text of an HTML page, roughly: servers and proxies that do not know OTLP answer with one.
fn without_tags(page: &str) -> String {
    let after_tag = |part: &str| part.split_once('>').map_or(" ".to_owned(), |(_, text)| format!(" {text}"));
    page.split('<').skip(1).map(after_tag).collect()
}

/// Seconds, or a date of RFC 9110 (section 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_nanosecond();
    Some(Duration::from_nanos(u64::try_from(date).ok()?.saturating_sub(now.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT

    fn verdict(status: u16, json: bool, body: &[u8]) -> Verdict {
        Answer { status, retry_after: None, json, body }.verdict("server", NOW)
    }

    #[test]
    fn statuses() {
        for status in [407, 429, 502, 503, 504] {
            assert!(matches!(verdict(status, false, b""), Verdict::Retry { after: None, .. }), "{status}");
        }
        for status in [301, 308, 400, 401, 403, 404, 408, 415, 500, 501, 505] {
            assert!(matches!(verdict(status, false, b""), Verdict::Reject { .. }), "{status}");
        }
        assert!(matches!(verdict(413, false, b""), Verdict::Split { .. }));
        assert!(matches!(verdict(400, false, b"http: request body too large"), Verdict::Split { .. }));
        assert_eq!(verdict(200, false, b""), Verdict::DELIVERED);
        assert_eq!(verdict(202, true, b"{}"), Verdict::DELIVERED);
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
