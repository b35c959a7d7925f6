//! Converts units and times of the two formats.

use crate::common::time::Timestamp;

/// The UCUM code of an OpenMetrics unit, or of the unit at the end of a Prometheus name
/// (`node_cpu_seconds_total`).
pub fn unit(declared: Option<&str>, name: &str) -> Option<String> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let last = name.rsplit_once('_').map(|(_, last)| last);
    match declared {
        Some(unit) if !unit.is_empty() => Some(ucum(unit).unwrap_or(unit).to_owned()),
        _ => last.and_then(ucum).map(str::to_owned),
    }
}

/// The UCUM codes of Prometheus and OpenMetrics units.
fn ucum(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "seconds" => "s",
        "milliseconds" => "ms",
        "microseconds" => "us",
        "nanoseconds" => "ns",
        "days" => "d",
        "hours" => "h",
        "bytes" => "By",
        "kibibytes" => "KiBy",
        "mebibytes" => "MiBy",
        "gibibytes" => "GiBy",
        "bits" => "bit",
        "ratio" => "1",
        "percent" => "%",
        "celsius" => "Cel",
        "kelvin" => "K",
        "hertz" => "Hz",
        "volts" => "V",
        "amperes" => "A",
        "watts" => "W",
        "joules" => "J",
        "grams" => "g",
        "meters" => "m",
        _ => return None,
    })
}

/// Parses the time of a sample: milliseconds in the text format, seconds in OpenMetrics.
pub fn timestamp(text: &str, openmetrics: bool) -> Option<Timestamp> {
    if openmetrics { seconds(text) } else { text.parse().ok().and_then(|ms| scaled(ms, "", 6)) }
}

/// Parses seconds since the epoch: exactly if they are a plain decimal, otherwise to the
/// microsecond, the resolution of a double.
pub fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(whole) = whole.parse()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return scaled(whole, fraction, 9);
    }
    let micros = (text.parse::<f64>().ok()? * 1e6).round();
    // 2^63 nanoseconds; NaN fails too.
    (0.0..=9.2e15).contains(&micros).then(|| Timestamp(micros as u64 * 1000))
}

/// `whole.fraction` times ten to the power of `decimals`, as nanoseconds; cuts off further decimals.
fn scaled(whole: u64, fraction: &str, decimals: u32) -> Option<Timestamp> {
    let used = &fraction[..fraction.len().min(decimals as usize)];
    let missing = decimals - u32::try_from(used.len()).ok()?;
    let fraction = if used.is_empty() { 0 } else { used.parse::<u64>().ok()? * 10u64.pow(missing) };
    Some(Timestamp(whole.checked_mul(10u64.pow(decimals))?.checked_add(fraction)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = |text, openmetrics| timestamp(text, openmetrics).map(|ts| ts.to_string());
        assert_eq!(at("1395066363123", false).unwrap(), "2014-03-17T14:26:03.123000000Z");
        assert_eq!(at("1520879607.789", true).unwrap(), "2018-03-12T18:33:27.789000000Z");
        assert_eq!(at("1520879607.1234567899", true).unwrap(), "2018-03-12T18:33:27.123456789Z");
        assert_eq!(at("1.520879607789e+09", true).unwrap(), "2018-03-12T18:33:27.789000000Z");
        assert_eq!(at("0", true).unwrap(), "1970-01-01T00:00:00.000000000Z");
        for (text, openmetrics) in
            [("-1", false), ("1.5", false), ("99999999999999999999", true), ("-1", true), ("NaN", true)]
        {
            assert_eq!(at(text, openmetrics), None, "{text}");
        }
        for text in ["1e300", "1.2.3", "", ".", "1.é", "99999999999999"] {
            assert_eq!(at(text, true), None, "{text}");
        }
    }

    #[test]
    fn declared_units_and_units_in_names() {
        assert_eq!(unit(Some("seconds"), "a").unwrap(), "s");
        assert_eq!(unit(Some("furlongs"), "a").unwrap(), "furlongs");
        assert_eq!(unit(None, "node_cpu_seconds_total").unwrap(), "s");
        assert_eq!(unit(Some(""), "node_memory_MemFree_bytes").unwrap(), "By");
        assert_eq!(unit(None, "node_load1"), None);
        assert_eq!(unit(None, "bytes"), None);
    }
}
