//! What holds for any bytes. The fuzz targets call this with what a fuzzer makes of recordings, the tests with
//! recordings and their parts.
#![allow(dead_code, reason = "each target calls one of these")]

use serde_json::Value;
use telepipe::collect::powermetrics::{self, Output};
use telepipe::collect::vm_stat::{self, Parsed};
use telepipe::common::lines::{Block, Splitter};
use telepipe::record::Vmstat;

/// It comes to an end, says the same however the bytes come, gives numbers that JSON can hold, and no more samples
/// than lines.
pub fn powermetrics(bytes: &[u8]) {
    let told = told(bytes, bytes.len());
    assert_eq!(told, self::told(bytes, 7), "in pieces");
    let lines = bytes.split(|&byte| byte == b'\n').count();
    let mut samples = 0;
    for it in told {
        let Output::Sample(sample) = it else { continue };
        samples += 1;
        let records = [
            serde_json::to_value(&sample.cpus),
            serde_json::to_value(&sample.gpus),
            serde_json::to_value(&sample.temperatures),
            serde_json::to_value(&sample.fans),
            serde_json::to_value(sample.pressure.iter().collect::<Vec<_>>()),
            serde_json::to_value(sample.battery.iter().collect::<Vec<_>>()),
            serde_json::to_value(&sample.tasks),
            serde_json::to_value(sample.powers.iter().map(|power| power.watts).collect::<Vec<_>>()),
            serde_json::to_value(sample.elapsed_s.into_iter().collect::<Vec<_>>()),
        ];
        for record in records {
            let record = record.unwrap();
            assert!(!has_null(&record), "{record}");
        }
    }
    assert!(samples <= lines, "{samples} samples of {lines} lines");
}

/// What is not there is left out; null is a number that is none.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.iter().any(has_null),
        Value::Object(all) => all.values().any(has_null),
        _ => false,
    }
}

/// What the parser tells of bytes that come in pieces of that length.
pub fn told(bytes: &[u8], piece: usize) -> Vec<Output> {
    let (mut parser, mut lines, mut all) =
        (powermetrics::Parser::default(), Splitter::new(1 << 20), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let done: Result<(), ()> = lines.feed_blocks(piece, |block| {
            let (Block::Lines(bytes) | Block::Part { bytes, .. }) = block;
            parser.lines(bytes, &mut |it| all.push(it));
            Ok(())
        });
        done.unwrap();
    }
    if let Some(rest) = lines.partial() {
        parser.rest(rest, &mut |it| all.push(it));
    }
    parser.finish(&mut |it| all.push(it));
    all
}

/// It comes to an end, names are words, and there are no more samples than lines. Gives the samples.
pub fn vm_stat(bytes: &[u8]) -> Vec<vm_stat::Sample> {
    let lines = bytes.split(|&byte| byte == b'\n').count();
    let (mut parser, mut samples) = (vm_stat::Parser::default(), Vec::new());
    let mut take = |taken| {
        let Parsed::Sample(sample) = taken else { return };
        let mut record = Vmstat::default();
        sample.counts.fill(&mut record, sample.page_size);
        let _ = sample.counts.consistent();
        let names = sample.rows.iter().map(|(name, _)| name.as_bytes());
        for name in names {
            assert!(
                name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
            );
        }
        serde_json::to_string(&record).unwrap();
        samples.push(*sample);
    };
    let (whole, rest) = match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&bytes[..0], bytes),
    };
    whole.split(|&byte| byte == b'\n').for_each(|line| take(parser.line(line)));
    take(parser.rest(rest));
    take(parser.finish());
    assert!(samples.len() <= lines, "{} samples of {lines} lines", samples.len());
    samples
}
