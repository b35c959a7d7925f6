//! Writes OTLP/JSON to stdout: one line per batch and signal, as in the Collector's files.

use std::future::ready;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::otlp::Encoder;
use super::{Batch, Encoded, Sending, Sink, Traffic, Verdict};

/// The sink.
pub struct Stdout {
    encoder: Encoder,
    traffic: Traffic,
}

impl Stdout {
    /// Writes what `encoder` makes.
    pub fn new(encoder: Encoder) -> Self {
        Self { encoder, traffic: Traffic::default() }
    }
}

impl Sink for Stdout {
    type Body = Vec<u8>;

    fn name(&self) -> &'static str {
        "stdout"
    }

    /// A slow reader, such as a pager, is waited for.
    fn is_bounded(&self) -> bool {
        false
    }

    fn size(&self, body: &Vec<u8>) -> usize {
        body.len()
    }

    fn traffic(&self) -> Option<&Traffic> {
        Some(&self.traffic)
    }

    fn evicted_series(&self) -> u64 {
        self.encoder.series().evicted()
    }

    fn state(&self) -> Option<Vec<u8>> {
        self.encoder.state()
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), String> {
        self.encoder.restore_state(state)
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        self.encoder.encode(batch).map(|body| body.to_json())
    }

    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let name = self.name();
        self.encoder.encode(batch).map(|body| body.preview(name, "stdout"))
    }

    fn send(&mut self, body: &Vec<u8>) -> Sending {
        self.traffic.add(body.len(), body.len());
        Box::pin(ready(match write(body) {
            Ok(()) => Verdict::DELIVERED,
            Err(Errno::PIPE) => Verdict::Gone { reason: None },
            Err(error) => Verdict::Gone { reason: Some(format!("cannot write: {error}")) },
        }))
    }
}

fn write(mut rest: &[u8]) -> rustix::io::Result<()> {
    let stdout = rustix::stdio::stdout();
    while !rest.is_empty() {
        match rustix::io::write(stdout, rest) {
            Ok(length) => rest = &rest[length..],
            Err(Errno::INTR) => {}
            // stdout was opened as non-blocking: wait until it can be written.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use crate::ship::BatchRange;
    use crate::ship::otlp::Options;

    /// A counter that goes back twice, and a line without a time of its own.
    fn input() -> Vec<String> {
        let line = |n: u64| {
            let reads = [10, 20, 5, 6, 30, 2, 3, 4][n as usize % 8];
            format!(
                r#"{{"ts":"2026-11-20T20:45:{n:02}Z","kind":"disk","host":"h","device":"a","start_ts":"2026-11-01T00:00:00Z","reads":{reads}}}"#
            )
        };
        (0..20).map(line).chain([r#"{"message":"no time"}"#.to_owned()]).collect()
    }

    fn sink() -> Stdout {
        let options = Options { host_id: None, ..Options::from_env().unwrap() };
        Stdout::new(Encoder::new(options))
    }

    fn bodies(sink: &mut Stdout, batch: &Batch) -> Vec<Vec<u8>> {
        sink.encode(batch).requests.into_iter().map(|request| request.body).collect()
    }

    #[test]
    fn a_replay_after_a_crash_gives_the_same_bytes() {
        let input = input();
        let lines = || input.iter().enumerate().map(|(offset, line)| (offset as u64, line.as_bytes()));
        let batch = |range: std::ops::Range<u64>, received: u64| {
            let mut batch = Batch::new();
            for (offset, line) in lines().filter(|(offset, _)| range.contains(offset)) {
                batch.push_received(offset, Timestamp(received + offset), line);
            }
            batch
        };
        let mut first = sink();
        bodies(&mut first, &batch(0..9, 1_000));
        // What is written before the first attempt.
        let range = serde_json::to_string(&batch(9..21, 2_000).range()).unwrap();
        let state = serde_json::to_string(first.encoder.series()).unwrap();
        let sent = bodies(&mut first, &batch(9..21, 2_000));
        assert_eq!(sent.len(), 2);

        let mut second = sink();
        second.encoder.restore(serde_json::from_str(&state).unwrap());
        let range: BatchRange = serde_json::from_str(&range).unwrap();
        assert_eq!(bodies(&mut second, &Batch::replay(&range, lines())), sent);
        // Without the state, the counter would start elsewhere.
        assert_ne!(bodies(&mut sink(), &Batch::replay(&range, lines())), sent);
    }
}
