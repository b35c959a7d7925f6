//! [`Timestamp`], for `ts`, `start_ts` and `begin_ts`: written as RFC 3339 UTC with nine decimals; and [`Micros`], for
//! `*_us` fields.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Implements `JsonSchema` for a type that is serialized as something else: the schema is written wherever it is used.
macro_rules! inline_schema {
    ($type:ident, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use inline_schema;

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The current time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// From whole seconds since the epoch, such as `btime` in /proc/stat.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// Writes the thirty bytes of `2026-11-20T20:45:00.123456789Z`.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }

    fn text(self) -> [u8; 30] {
        let secs = self.0 / 1_000_000_000;
        let (year, month, day) = civil_from_days(secs / 86_400);
        let of_day = secs % 86_400;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], of_day / 3600);
        digits(&mut text[14..16], of_day / 60 % 60);
        digits(&mut text[17..19], of_day % 60);
        digits(&mut text[20..29], self.0 % 1_000_000_000);
        text
    }
}

fn digits(field: &mut [u8], mut value: u64) {
    for byte in field.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the proleptic Gregorian calendar.
///
/// Not by `jiff`: this runs once per record, and a date library costs as much as the rest of the line. A test
/// compares the two.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153; // 0 is March
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Any RFC 3339 time from 1970 to 2554, with any number of decimals and any offset.
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let nanos = text.parse::<jiff::Timestamp>()?.as_nanosecond();
        let outside = |_| jiff::Error::from_args(format_args!("not between 1970 and 2554"));
        u64::try_from(nanos).map(Self).map_err(outside)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

inline_schema!(Timestamp, { "type": "string", "format": "date-time" });

/// A duration in nanoseconds, written in microseconds with up to three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The double nearest to a number of three decimals prints as that number.
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

inline_schema!(Micros, { "type": "number", "minimum": 0 });

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn writes_what_jiff_reads(nanos in 0u64..7_258_118_400_000_000_000) {
            let text = Timestamp(nanos).to_string();
            let read: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(read.as_nanosecond(), i128::from(nanos));
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(nanos));
            prop_assert_eq!(text.len(), 30);
        }

        #[test]
        fn micros_have_at_most_three_decimals(nanos in 0u64..1u64 << 52) {
            let text = serde_json::to_string(&Micros(nanos)).unwrap();
            let decimals = text.split_once('.').unwrap().1;
            prop_assert!(decimals.len() <= 3, "{}", text);
            let exact = format!("{}.{:03}", nanos / 1000, nanos % 1000);
            prop_assert_eq!(text.parse::<f64>().unwrap(), exact.parse::<f64>().unwrap());
        }
    }

    #[test]
    fn leap_day() {
        let ts: Timestamp = "2028-02-29T23:59:59.000000001+00:00".parse().unwrap();
        assert_eq!(ts.to_string(), "2028-02-29T23:59:59.000000001Z");
    }
}
