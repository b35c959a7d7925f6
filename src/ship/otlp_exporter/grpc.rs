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

/// The path of the method that takes a signal.
pub fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    }
}

/// Puts a message into a frame: whether it is compressed, its length, and its bytes.
pub fn frame(compressed: bool, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX); // MAX_MESSAGE is far below
    [&[u8::from(compressed)], &length.to_be_bytes()[..], message].concat()
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

/// What to do after an answer; `None` if it is not gRPC. `server` opens the reason.
pub fn verdict(answer: &Answer, server: &str) -> Option<Verdict> {
    let get = |name: &str| {
        let value = answer.trailers.get(name).or_else(|| answer.headers.get(name))?;
        value.to_str().ok()
    };
    let code: usize = get("grpc-status")?.parse().ok()?;
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
