//! Writes OTLP/JSON to stdout: one line per batch and signal, as in the Collector's files.

use std::future::ready;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::otlp::{self, Encoder};
use super::{Batch, Encoded, Request, Sending, Sink, Verdict};

/// The sink.
pub struct Stdout(Encoder);

impl Stdout {
    /// Writes what `encoder` makes.
    pub fn new(encoder: Encoder) -> Self {
        Self(encoder)
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

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let Encoded { requests, rejected, empty } = self.0.encode(batch);
        let json = |Request { body, lines, items }: Request<otlp::Body>| Request {
            body: body.to_json(),
            lines,
            items,
        };
        Encoded { requests: requests.into_iter().map(json).collect(), rejected, empty }
    }

    fn send(&mut self, body: &Vec<u8>) -> Sending {
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
