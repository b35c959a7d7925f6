//! Durations and byte sizes on the command line: `10ms`, `1.5s`, `64KiB`, `2G`.

use std::time::Duration;

use bytesize::ByteSize;

const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Parses a duration greater than zero: `500us`, `10ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// A message for clap to print.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text) {
        Ok(time) if time.is_zero() => Err("must be greater than zero".into()),
        result => result,
    }
}

/// Parses a duration greater than zero that must have a unit: an age, for which a number of seconds is rarely meant.
///
/// # Errors
/// A message for clap to print.
pub fn age(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => {
            Err(format!("needs a unit; write {number}d for days, or {number}s for seconds"))
        }
        _ => duration(text),
    }
}

/// Parses a duration that may be zero, such as a threshold.
///
/// # Errors
/// A message for clap to print.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let days = || text.strip_suffix('d')?.parse::<f64>().ok().map(|days| days * 86_400.0);
    let plain = || text.parse().ok().or_else(days).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    let friendly = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    match plain().or_else(friendly).filter(|_| !text.contains(',')) {
        Some(time) if time > LONGEST => Err("must be at most ten years".into()),
        Some(time) => Ok(time),
        None => Err("not a duration; use a form such as 500us, 10ms, 1.5s or 2m".into()),
    }
}

/// Parses a number of bytes greater than zero: `4096`, `64k`, `1.5MiB`, `2GB`. Every unit is a power of 1024.
///
/// # Errors
/// A message for clap to print.
pub fn size(text: &str) -> Result<usize, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    // `bytesize` takes `k` and `kB` for 1000.
    let unit = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => "not a unit",
    };
    match format!("{number}{unit}").parse().ok().map(|ByteSize(bytes)| usize::try_from(bytes)) {
        Some(Ok(0)) => Err("must be greater than zero".into()),
        Some(Ok(bytes)) if bytes < usize::MAX => Ok(bytes),
        _ => Err("not a size; use a form such as 4096, 64KiB, 1MiB or 2GiB".into()),
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
            assert_eq!(duration_or_zero(text).ok(), (text == "0s").then_some(Duration::ZERO), "{text}");
        }
    }

    #[test]
    fn ages() {
        assert_eq!(age("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(age("7s"), Ok(Duration::from_secs(7)));
        for text in ["7", "0.5", "1e3", "0", "", "0d", "week"] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4096b", 4096),
            ("64k", 65_536),
            ("64kB", 65_536),
            ("1MiB", 1 << 20),
            ("1.5M", 3 << 19),
            ("2G", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "0", "0.1b", "-1", "1T", "1e3", "99999999999999999999", "9999999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
