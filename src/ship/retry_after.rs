//! Parses the `Retry-After` header of HTTP answers.

use std::time::Duration;

use crate::common::time::Timestamp;

/// How long to wait: seconds, or a date of RFC 9110 (section 10.2.3).
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_nanosecond();
    Some(Duration::from_nanos(u64::try_from(date).ok()?.saturating_sub(now.0)))
}
