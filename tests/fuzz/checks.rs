//! Properties of the parsers for any bytes. The fuzz targets check them for bytes that a fuzzer derives from recordings,
//! the tests for recordings and parts of them.
#![allow(dead_code, reason = "each target calls one of these")]

use serde_json::Value;
use telepipe::collect::powermetrics;
use telepipe::collect::vm_stat::{self, Parsed};
use telepipe::common::lines::{Block, Splitter};
use telepipe::record::Vmstat;

/// The parser ends, its result does not depend on how the bytes are split, numbers are finite, and there are at most as
/// many samples as lines.
pub fn powermetrics(bytes: &[u8]) {
    let parsed = powermetrics_parsed(bytes, bytes.len());
    assert_eq!(parsed, powermetrics_parsed(bytes, 7), "in pieces");
    let lines = bytes.split(|&byte| byte == b'\n').count();
    let mut samples = 0;
    for it in parsed {
        let powermetrics::Parsed::Sample(sample) = it else { continue };
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

/// Whether there is a null: serde_json writes numbers that are not finite as null.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.iter().any(has_null),
        Value::Object(all) => all.values().any(has_null),
        _ => false,
    }
}

/// Parses bytes that arrive in pieces of the given length.
pub fn powermetrics_parsed(bytes: &[u8], piece: usize) -> Vec<powermetrics::Parsed> {
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

/// The parser ends, names are words, and there are at most as many samples as lines. Returns the samples.
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
