//! OTLP over gRPC: the frame around a request, and what answers mean.
//!
//! OTLP 1.x, "OTLP/gRPC Response" and "Failures": some codes ask to try again, RESOURCE_EXHAUSTED does if `RetryInfo`
//! comes with it, and everything else is final.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message;

use super::http_answer::{Status, one_line, partial_success, strange};
use crate::http::Answer;
use crate::ship::Verdict;
use crate::ship::otlp::Signal;

/// The limit that servers set for a message unless they are configured otherwise, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The length of [`frame_head`].
pub const FRAME: usize = 5;

/// The path of the method that takes a signal.
pub fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    }
}

/// What precedes a message in its frame: whether it is compressed, and its length.
pub fn frame_head(compressed: bool, length: usize) -> [u8; 5] {
    let length = u32::try_from(length).unwrap_or(u32::MAX); // MAX_MESSAGE is far below
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// The value of `grpc-timeout`, which has at most eight digits; `None` if the time does not fit.
pub fn timeout(time: Duration) -> Option<String> {
    let fits = |amount: u64| amount < 100_000_000;
    match (u64::try_from(time.as_millis()), time.as_secs()) {
        (Ok(millis), _) if fits(millis) => Some(format!("{millis}m")),
        (_, seconds) if fits(seconds) => Some(format!("{seconds}S")),
        _ => None,
    }
}

/// The codes, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How servers say that a message is too large: grpc-go, grpc-java, grpc-c and tonic.
const TOO_LARGE: [&str; 4] =
    ["larger than max", "exceeds maximum size", "message length too large", "too large"];

/// The code in an answer; `None` if it is not gRPC.
pub fn code(answer: &Answer) -> Option<usize> {
    get(answer, "grpc-status")?.parse().ok()
}

fn get<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.trailers.get(name).or_else(|| answer.headers.get(name))?.to_str().ok()
}

/// What to do after an answer; `None` if it is not gRPC. `server` opens the reason.
pub fn verdict(answer: &Answer, server: &str) -> Option<Verdict> {
    let get = |name: &str| get(answer, name);
    let code = code(answer)?;
    if code == 0 {
        return Some(match message(&answer.body).and_then(partial_success) {
            Some((rejected_items, message)) => Verdict::Delivered { rejected_items, message },
            None => Verdict::Delivered { rejected_items: 0, message: Some(strange("OK", &answer.body)) },
        });
    }
    let status = get("grpc-status-details-bin").and_then(details).unwrap_or_default();
    let text = get("grpc-message").map(percent_decoded).filter(|text| !text.is_empty());
    let text = one_line(&text.unwrap_or_else(|| status.message.clone()));
    let name = CODES.get(code).map_or_else(|| format!("code {code}"), |name| (*name).to_owned());
    let reason = match &*text {
        "" => format!("{server} answers {name}"),
        text => format!("{server} answers {name}: {text}"),
    };
    let after = status.retry_delay();
    Some(match &*name {
        "RESOURCE_EXHAUSTED" | "OUT_OF_RANGE" if TOO_LARGE.iter().any(|words| text.contains(words)) => {
            Verdict::Split { reason }
        }
        "CANCELLED" | "DEADLINE_EXCEEDED" | "ABORTED" | "OUT_OF_RANGE" | "UNAVAILABLE" | "DATA_LOSS" => {
            Verdict::Retry { after, reason }
        }
        "RESOURCE_EXHAUSTED" if after.is_some() => Verdict::Retry { after, reason },
        _ => Verdict::Reject { reason },
    })
}

/// The message in a body of one uncompressed frame. An empty body counts as an empty message.
fn message(body: &[u8]) -> Option<&[u8]> {
    match body {
        [] => Some(body),
        [0, a, b, c, d, message @ ..] => {
            let length = u32::from_be_bytes([*a, *b, *c, *d]);
            Some(message).filter(|message| message.len() as u64 == u64::from(length))
        }
        _ => None,
    }
}

/// The `google.rpc.Status` in a header, as base64 with or without padding.
fn details(text: &str) -> Option<Status> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    Status::decode(&*GeneralPurpose::new(&STANDARD, config).decode(text).ok()?).ok()
}

/// `grpc-message`: UTF-8, percent-encoded. What is not properly encoded is kept as it is.
fn percent_decoded(text: &str) -> String {
    crate::ship::otlp::percent_decode(text).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::http::StatusCode;

    fn answer(trailers: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let pair = |(name, value): &(&'static str, &str)| ((*name).parse().unwrap(), value.parse().unwrap());
        let trailers = trailers.iter().map(pair).collect::<HeaderMap>();
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.to_vec(),
            truncated: false,
            trailers,
        }
    }

    /// What cannot be had from grpcio, which the tests of the program use.
    #[test]
    fn answers_of_other_servers() {
        let of = |trailers: &[_], body: &[u8]| verdict(&answer(trailers, body), "server");
        assert_eq!(of(&[], b""), None);
        assert_eq!(of(&[("grpc-status", "none")], b""), None);
        assert_eq!(of(&[("grpc-status", "0")], b""), Some(Verdict::DELIVERED));
        for broken in [&b"\0\0\0\0\x09short"[..], b"<html>", b"\x01\0\0\0\0"] {
            let Some(Verdict::Delivered { rejected_items: 0, message: Some(_) }) =
                of(&[("grpc-status", "0")], broken)
            else {
                panic!("{broken:?}")
            };
        }
        // Percent-encoded, and a code of the future.
        let reason = "server answers code 99: caf\u{e9} 100%".to_owned();
        let trailers = [("grpc-status", "99"), ("grpc-message", "caf%C3%A9 100%25")];
        assert_eq!(of(&trailers, b""), Some(Verdict::Reject { reason }));
        // tonic's words and code for a message that is too large, which would otherwise be retried for ever.
        let words =
            "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes";
        let verdict = of(&[("grpc-status", "11"), ("grpc-message", words)], b"");
        assert!(matches!(verdict, Some(Verdict::Split { .. })), "{verdict:?}");
    }

    #[test]
    fn details_with_and_without_padding() {
        // google.rpc.Status by hand: code 8, message "m", and a RetryInfo of 1.5 s.
        let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
        let status = [&b"\x08\x08\x12\x01m\x1a"[..], &[any.len() as u8], any].concat();
        let padded = base64::engine::general_purpose::STANDARD.encode(status);
        for text in [padded.as_str(), padded.trim_end_matches('=')] {
            let trailers = [("grpc-status", "8"), ("grpc-status-details-bin", text)];
            let expected = Verdict::Retry {
                after: Some(Duration::from_millis(1500)),
                reason: "server answers RESOURCE_EXHAUSTED: m".into(),
            };
            assert_eq!(verdict(&answer(&trailers, b""), "server"), Some(expected));
        }
    }

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        assert_eq!(timeout(Duration::from_millis(1500)).as_deref(), Some("1500m"));
        assert_eq!(timeout(Duration::from_secs(200_000)).as_deref(), Some("200000S"));
        assert_eq!(timeout(Duration::MAX), None);
    }
}
