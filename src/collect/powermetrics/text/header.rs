//! The line that begins a sample.

use jiff::fmt::strtime;
use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::space0;
use nom::sequence::{preceded, terminated};

use crate::collect::powermetrics::bounds;
use crate::collect::powermetrics::value::{Parsed, number};
use crate::common::time::Timestamp;

/// What it says of a sample.
#[derive(Debug, PartialEq)]
pub struct Header {
    /// When the sample ended.
    pub ts: Option<Timestamp>,
    /// Its length in seconds.
    pub elapsed_s: Option<f64>,
    /// Whether it sums up others.
    pub summary: bool,
    /// Whether all that it says was understood.
    pub whole: bool,
}

/// `*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (1001.02ms elapsed) ***`
pub fn header(line: &[u8]) -> Option<Header> {
    let what = |bytes| {
        preceded((tag("***"), space0), terminated(take_until(" system activity"), tag(" system activity")))
            .parse(bytes)
    };
    let (rest, what): (_, &[u8]) = Parsed::<'_, &[u8]>::ok(what(line))?;
    let text = str::from_utf8(rest).ok()?;
    if !text.ends_with("***") {
        return None;
    }
    let mut header = Header { ts: None, elapsed_s: None, summary: what != b"Sampled", whole: true };
    for group in text.split('(').skip(1) {
        let group = group.split(')').next().unwrap_or(group);
        let understood = match group.strip_suffix("ms elapsed") {
            Some(ms) => {
                header.elapsed_s = number(ms.as_bytes()).and_then(|ms| bounds::length(ms / 1000.0));
                header.elapsed_s.is_some()
            }
            None => {
                header.ts = date(group);
                header.ts.is_some()
            }
        };
        header.whole &= understood;
    }
    Some(header)
}

/// `Tue Sep 29 19:44:14 2026 +0800`, as `ctime` pads it. The day of the week follows from the rest; recordings are
/// made anonymous by people who do not think of it.
fn date(text: &str) -> Option<Timestamp> {
    let words: Vec<_> = text.split_ascii_whitespace().skip(1).collect();
    let time = strtime::parse("%b %d %H:%M:%S %Y %z", words.join(" ")).ok()?.to_timestamp().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_of_a_header_is_seen() {
        let told = |text: &str| {
            let header = header(text.as_bytes()).unwrap();
            (header.ts.map(|ts| ts.0 / 1_000_000_000), header.elapsed_s, header.summary, header.whole)
        };
        let end = Some(1_790_682_254);
        for (text, expected) in [
            (
                "*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***",
                (end, Some(0.5), false, true),
            ),
            (
                "*** Summary system activity (Sun Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***",
                (end, Some(0.5), true, true),
            ),
            (
                "*** Sampled system activity (Di 29 Sep 2026 19:44:14 +0800) (500.00ms elapsed) ***",
                (None, Some(0.5), false, false),
            ),
            (
                "*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (5x0.00ms elapsed) ***",
                (end, None, false, false),
            ),
            ("*** Sampled system activity ***", (None, None, false, true)),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }
}
