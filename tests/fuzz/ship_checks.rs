//! Properties of what `tele-ship` reads, for any bytes: lines, OTLP/JSON, a spool, `Retry-After` and Prometheus text. The
//! fuzz targets and tests/ship_fuzz.rs check them.
#![allow(dead_code, reason = "each target calls one of these")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use telepipe::collect::prometheus;
use telepipe::common::time::Timestamp;
use telepipe::ship::Batch;
use telepipe::ship::line::Line;
use telepipe::ship::otlp::{Encoder, Options};
use telepipe::ship::retry_after::retry_after;
use telepipe::ship::spool::disk::Disk;
use telepipe::ship::spool::store::{Appender, Found, Lines, Reader, Spool};

/// A line is accepted if serde_json takes it as an object, and has the same field names then.
pub fn line(bytes: &[u8]) {
    let line = Line::parse(bytes);
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(expected)) => {
            let line = line.unwrap_or_else(|why| panic!("refused: {why}"));
            let names: Vec<_> = line.fields.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, expected.keys().collect::<Vec<_>>());
        }
        _ => assert!(line.is_err(), "accepted"),
    }
}

/// Each line is in one request, rejected or empty; and what a request says in JSON is accepted again, with as many
/// items.
pub fn otlp_json(bytes: &[u8]) {
    let mut encoder = Encoder::new(options());
    let (json, _) = encoded(&mut encoder, bytes);
    for (json, items) in json {
        let mut again = 0;
        for line in json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (bodies, rejected) = encoded(&mut Encoder::new(options()), line);
            assert_eq!(rejected, 0, "{}", String::from_utf8_lossy(line));
            again += bodies.iter().map(|(_, items)| items).sum::<u64>();
        }
        assert_eq!(again, items);
    }
}

/// The JSON and the number of items of each request for a line, and how many lines are rejected.
fn encoded(encoder: &mut Encoder, line: &[u8]) -> (Vec<(Vec<u8>, u64)>, usize) {
    let mut batch = Batch::new();
    batch.push(0, line);
    let encoded = encoder.encode(&batch);
    let sent = encoded.requests.iter().any(|request| !request.lines.is_empty());
    assert_eq!(usize::from(sent) + encoded.rejected.len() + encoded.empty.len(), 1);
    (encoded.requests.iter().map(|it| (it.body.to_json(), it.items)).collect(), encoded.rejected.len())
}

fn options() -> Options {
    Options {
        names: telepipe::ship::otlp::Names::Semconv,
        service: "s".to_owned(),
        pipeline: "p".to_owned(),
        host: "h".to_owned(),
        default_host: "h".to_owned(),
        host_id: None,
        attributes: Vec::new(),
    }
}

/// A spool opens whatever its files contain, and a reader gives lines that were written, in their order, and nothing
/// else. Each four bytes flip bits of a file, or cut it off.
pub fn spool(changes: &[u8]) {
    let disk = Arc::new(Memory::default());
    let spool = Spool::open(disk.clone(), u64::MAX).expect("an empty spool").0;
    let mut appender = Appender::new(Arc::new(spool));
    let lines: Vec<_> = (0..40).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    for lines in lines.chunks(5) {
        let block = Lines { bytes: lines.concat().into_bytes(), signals: [0, 5, 0], received: Timestamp(1) };
        appender.commit(&[block], || ()).expect("no failure");
    }
    drop(appender);
    disk.write_at("otlp.cursor", 0, b"{\"next\":7,\"open\":[]}\n").expect("no failure");
    for change in changes.chunks_exact(4) {
        let mut files = disk.0.lock().unwrap();
        let count = files.len();
        let file = files.values_mut().nth(usize::from(change[0] & 0x7f) % count).unwrap();
        let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % file.len().max(1);
        match file.get_mut(at) {
            Some(byte) if change[0] < 0x80 => *byte ^= change[3],
            _ => file.truncate(at),
        }
    }
    let (spool, _) = Spool::open(disk, u64::MAX).expect("damage is no error");
    let (first, end) = spool.range();
    let (mut reader, mut read, mut rounds) = (Reader::new(Arc::new(spool), first, None), Vec::new(), 0);
    loop {
        rounds += 1;
        assert!(rounds < 10_000, "the reader does not end");
        match reader.read().expect("no failure") {
            Found::Block(block, bytes) => {
                let written = lines[block.first as usize..block.end() as usize].concat();
                assert_eq!(String::from_utf8_lossy(&bytes), written);
                read.push(block.first);
            }
            Found::Gap(..) => {}
            Found::End => break,
        }
    }
    assert!(read.is_sorted_by(|a, b| a < b) && reader.at() >= end.min(first), "{read:?}");
}

/// Files in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.0.lock().unwrap().get_mut(name).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.with(name, |file| file.len() as u64)
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(name, |file| {
            let rest = file.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or(&[]);
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            length
        })
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.entry(name.to_owned()).or_default();
        let end = at as usize + bytes.len();
        file.resize(file.len().max(end), 0);
        file[at as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_size(&self, name: &str, size: u64) -> io::Result<()> {
        self.with(name, |file| file.resize(size as usize, 0))
    }

    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// A number is that many seconds; anything else gives a time or none.
pub fn retry(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let after = retry_after(&text, Timestamp::from_secs(1_764_288_000));
    if let Ok(seconds) = text.trim().parse::<u64>() {
        assert_eq!(after, Some(Duration::from_secs(seconds)));
    }
}

/// Every point is counted, and there are no more bad lines than lines.
pub fn exposition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for openmetrics in [false, true] {
        let mut points = 0;
        let tally = prometheus::read(&text, openmetrics, &mut |_, point| {
            points += 1;
            serde_json::to_string(&point)?;
            Ok(())
        });
        let tally = tally.expect("the sink does not fail");
        assert_eq!(tally.points, points);
        let lines = text.split('\n').count() as u64;
        assert!(tally.samples <= lines, "{} samples of {lines} lines", tally.samples);
    }
}
