//! The line that begins a sample.

use jiff::fmt::strtime;
use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::space0;
use nom::sequence::{preceded, terminated};

use crate::clock::Timestamp;
use crate::collect::powermetrics::bounds;
use crate::collect::powermetrics::value::{Parsed, number};

/// When the sample ended, its length in seconds, and whether it is a summary.
pub type Header = (Option<Timestamp>, Option<f64>, bool);

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
    let mut groups =
        text.split('(').skip(1).filter_map(|group| group.split_once(')').map(|(group, _)| group));
    let ts = groups.clone().find_map(date);
    let elapsed = groups.find_map(|group| number(group.strip_suffix("ms elapsed")?.as_bytes()));
    Some((ts, elapsed.and_then(|ms| bounds::length(ms / 1000.0)), what != b"Sampled"))
}

/// `Tue Sep 29 19:44:14 2026 +0800`, as `ctime` pads it.
fn date(text: &str) -> Option<Timestamp> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let time = strtime::parse("%a %b %d %H:%M:%S %Y %z", words.join(" ")).ok()?.to_timestamp().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}
