//! The inserts of a request: its rows by table and day, compressed as they come.
//!
//! An insert is atomic only within a partition, and the tables have one for each day of the server's time zone.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The most rows of an insert.
const MAX_ROWS: u64 = 100_000;
/// So many bytes are gathered before they are compressed: a part with few rows then needs no compressor meanwhile.
const CHUNK: usize = 128 * 1024;

/// How rows are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Every version of ClickHouse reads it.
    Gzip,
    /// Cheaper and smaller; read from version 20.10 on.
    Zstd,
}

impl Encoding {
    /// The name in HTTP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// A compressor, at the fastest level; `None` if there is no memory for it.
    fn compressor(self) -> Option<Compressor> {
        match self {
            Self::Gzip => Some(Compressor::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast()))),
            Self::Zstd => Some(Compressor::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1).ok()?)),
        }
    }
}

enum Compressor {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    fn write(&mut self, bytes: &[u8]) {
        // Writing to a Vec cannot fail.
        let _ = match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        };
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// The rows of an insert.
pub struct Part {
    /// The number of the table.
    pub table: usize,
    /// The day.
    pub day: String,
    /// Its number among the parts for this table.
    pub number: usize,
    rows: u64,
    /// The size, before compression, of the rows that are compressed already.
    compressed: usize,
    plain: Vec<u8>,
    encoding: Encoding,
    compressor: Option<Compressor>,
}

impl Part {
    fn compress(&mut self) {
        if self.compressor.is_none() {
            self.compressor = self.encoding.compressor();
        }
        if let Some(compressor) = &mut self.compressor {
            compressor.write(&self.plain);
            self.compressed += self.plain.len();
            self.plain.clear();
        }
    }

    /// The size of the rows before compression.
    pub fn size(&self) -> usize {
        self.compressed + self.plain.len()
    }

    /// The compressed rows.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.compress();
        self.compressor.and_then(|compressor| compressor.finish().ok()).unwrap_or_default()
    }
}

/// The parts of a request.
pub struct Parts {
    zone: TimeZone,
    encoding: Encoding,
    /// The days seen, by their first nanosecond: the first one after them, and their date.
    days: BTreeMap<u64, (u64, String)>,
    /// The last part of each table and day.
    last: HashMap<(usize, u64), usize>,
    parts: Vec<Part>,
}

impl Parts {
    /// No parts. The days are those of `zone`.
    pub fn new(zone: TimeZone, encoding: Encoding) -> Self {
        Self { zone, encoding, days: BTreeMap::new(), last: HashMap::new(), parts: Vec::new() }
    }

    /// The buffer to which a row for a table is added, by the time that decides on its partition.
    pub fn row(&mut self, table: usize, time: u64) -> &mut Vec<u8> {
        let day = self.day(time);
        let number = match self.last.get(&(table, day)) {
            Some(index) if self.parts[*index].rows < MAX_ROWS => *index,
            before => {
                let count =
                    before.map_or(0, |_| self.parts.iter().filter(|part| part.table == table).count());
                let date = self.days[&day].1.clone();
                self.parts.push(Part {
                    table,
                    day: date,
                    number: count,
                    rows: 0,
                    plain: Vec::new(),
                    encoding: self.encoding,
                    compressed: 0,
                    compressor: None,
                });
                self.last.insert((table, day), self.parts.len() - 1);
                self.parts.len() - 1
            }
        };
        let part = &mut self.parts[number];
        if part.plain.len() >= CHUNK {
            part.compress();
        }
        part.rows += 1;
        &mut part.plain
    }

    /// The first nanosecond of the day.
    fn day(&mut self, time: u64) -> u64 {
        if let Some((first, (end, _))) = self.days.range(..=time).next_back()
            && time < *end
        {
            return *first;
        }
        let nanos = |time: Timestamp| u64::try_from(time.as_nanosecond()).unwrap_or(0);
        // A time that the calendar does not know is not known to ClickHouse either: any day will do.
        let day = Timestamp::from_nanosecond(time.into()).ok().and_then(|time| {
            let day = time.to_zoned(self.zone.clone());
            let first = day.start_of_day().ok()?;
            let end = day.tomorrow().ok()?.start_of_day().ok()?;
            Some((nanos(first.timestamp()), nanos(end.timestamp()), day.date().to_string()))
        });
        let (first, end, date) = day.unwrap_or((time, time.saturating_add(1), "never".into()));
        self.days.insert(first, (end, date));
        first
    }

    /// All parts, in the order of their first rows.
    pub fn into_vec(self) -> Vec<Part> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn time(text: &str) -> u64 {
        text.parse::<crate::common::time::Timestamp>().unwrap().0
    }

    fn text(part: Part) -> String {
        let (encoding, bytes) = (part.encoding, part.into_bytes());
        let mut text = String::new();
        match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
            Encoding::Zstd => {
                zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap()
            }
        };
        text
    }

    #[test]
    fn days_are_those_of_the_server() {
        let days = |zone: &str| {
            let mut parts = Parts::new(TimeZone::get(zone).unwrap(), Encoding::Gzip);
            for ts in [
                "2026-11-20T23:30:00Z",
                "2026-11-21T00:00:00Z",
                "2026-11-20T22:59:59.999999999Z",
                "1970-01-01T00:00:00Z",
            ] {
                parts.row(0, time(ts)).extend_from_slice(format!("{ts}\n").as_bytes());
            }
            parts.row(1, time("2026-11-20T23:30:00Z")).push(b'x');
            let parts = parts.into_vec().into_iter();
            parts
                .map(|part| (part.table, format!("{}-{}", part.day, part.number), text(part).lines().count()))
                .collect::<Vec<_>>()
        };
        let expected = |table, name: &str, rows| (table, name.to_owned(), rows);
        assert_eq!(
            days("UTC"),
            [
                expected(0, "2026-11-20-0", 2),
                expected(0, "2026-11-21-0", 1),
                expected(0, "1970-01-01-0", 1),
                expected(1, "2026-11-20-0", 1)
            ]
        );
        assert_eq!(
            days("Europe/Berlin"),
            [
                expected(0, "2026-11-21-0", 2),
                expected(0, "2026-11-20-0", 1),
                expected(0, "1970-01-01-0", 1),
                expected(1, "2026-11-21-0", 1)
            ]
        );
    }

    #[test]
    fn large_parts_are_divided() {
        let mut parts = Parts::new(TimeZone::UTC, Encoding::Zstd);
        for row in 0..250_000 {
            parts.row(0, row).extend_from_slice(format!("{row}\n").as_bytes());
        }
        let parts = parts.into_vec();
        let names: Vec<_> = parts.iter().map(|part| format!("{}-{}", part.day, part.number)).collect();
        assert_eq!(names, ["1970-01-01-0", "1970-01-01-1", "1970-01-01-2"]);
        let rows: Vec<_> = parts.into_iter().map(text).collect();
        assert_eq!(rows.concat(), (0..250_000).map(|row| format!("{row}\n")).collect::<String>());
        assert_eq!(rows[2].lines().count(), 50_000);
    }
}
