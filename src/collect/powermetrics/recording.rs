//! What `powermetrics` printed, as it comes → the records of as many samples as are wanted.

use anyhow::{Context as _, Result};

use super::records::Records;
use super::{Parser, Told};
use crate::common::diag::log;
use crate::common::emit::Emitter;
use crate::common::input::Input;
use crate::common::lines::{Block, Splitter};
use crate::common::time::Timestamp;
use crate::record::MAX_LINE;

/// Makes records of what `powermetrics` printed.
pub struct Recording {
    parser: Parser,
    records: Records,
    verbose: bool,
    /// How many samples are still wanted.
    left: Option<u64>,
    unknown: u64,
}

impl Recording {
    /// With records of tasks or without; so many samples, or all. `verbose` shows what is not understood.
    pub fn new(tasks: bool, verbose: bool, samples: Option<u64>) -> Self {
        Self { parser: Parser::default(), records: Records::new(tasks), verbose, left: samples, unknown: 0 }
    }

    /// Writes the records of everything that an input holds.
    ///
    /// # Errors
    /// If it cannot be read, or stdout fails.
    pub fn tell(mut self, mut input: Input, out: &mut Emitter) -> Result<()> {
        let mut lines = Splitter::new(MAX_LINE);
        while !self.done()
            && let Some(piece) = input.piece().context("cannot read the input")?
        {
            lines.feed_blocks(piece, |block| {
                let (Block::Lines(bytes) | Block::Part { bytes, .. }) = block;
                self.take(out, |parser, tell| parser.lines(bytes, tell))
            })?;
            if !input.ready() {
                out.flush()?;
            }
        }
        if let Some(rest) = lines.partial() {
            self.take(out, |parser, tell| parser.rest(rest, tell))?;
        }
        self.take(out, Parser::finish)?;
        out.lost(Timestamp::now(), "powermetrics line", self.unknown)
    }

    fn done(&self) -> bool {
        self.left == Some(0)
    }

    /// Lets the parser take something, and writes what it tells.
    fn take(
        &mut self,
        out: &mut Emitter,
        feed: impl FnOnce(&mut Parser, &mut dyn FnMut(Told)),
    ) -> Result<()> {
        if self.done() {
            return Ok(());
        }
        let mut told = Vec::new();
        feed(&mut self.parser, &mut |it| told.push(it));
        for told in told {
            match told {
                Told::Sample(mut sample) if !self.done() => {
                    let written = self.records.write(&mut sample, out)?;
                    self.left = self.left.map(|left| left.saturating_sub(u64::from(written)));
                }
                Told::Sample(_) => {}
                Told::Unknown(what) => {
                    self.unknown += 1;
                    if self.verbose {
                        log(format_args!("not understood: {what}"));
                    }
                }
            }
        }
        Ok(())
    }
}
