//! Durations on the command line: `500us`, `10ms`, `1.5s`, `2m`.

use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Reads `500us`, `10ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// What is wrong with it, for clap to print.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_none(text) {
        Ok(time) if time.is_zero() => Err("must be longer than nothing".into()),
        result => result,
    }
}

/// The same, but it may be 0: everything is at least as long.
///
/// # Errors
/// What is wrong with it, for clap to print.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    let days = || text.strip_suffix('d')?.parse::<f64>().ok().map(|days| days * 86_400.0);
    let plain = || text.parse().ok().or_else(days).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    let friendly = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    match plain().or_else(friendly).filter(|_| !text.contains(',')) {
        Some(time) if time > LONGEST => Err("must be at most ten years".into()),
        Some(time) => Ok(time),
        None => Err("not a time; write 500us, 10ms, 1.5s or 2m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("500us", 500_000),
            ("10ms", 10_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0.25", 250_000_000),
            ("1.5d", 129_600_000_000_000),
        ] {
            assert_eq!(duration(text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
        }
        for text in ["", "1,5s", "1e19", "d", "0s", "-1s", "ten", "1e999", "nan", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
            assert_eq!(duration_or_none(text).ok(), (text == "0s").then_some(Duration::ZERO), "{text}");
        }
    }
}
