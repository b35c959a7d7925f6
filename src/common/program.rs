//! What a program declares about itself: the kinds that it writes, its examples, and how it runs.
//!
//! A program is a struct that derives [`clap::Parser`] and implements [`Program`]; its `main` calls
//! [`super::entry::main`]. Parser, help, man page and completions come from the one declaration.

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::record::Kind;

/// What `--generate` can print.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Generate {
    /// The man page, in roff
    Man,
    /// The JSON Schema of the records, and the metrics they become
    Schema,
    /// Completions for bash
    CompletionsBash,
    /// Completions for zsh
    CompletionsZsh,
    /// Completions for fish
    CompletionsFish,
}

/// What a program declares.
pub trait Program: Parser {
    /// The kinds of records it writes: the FIELDS section of its man page, and its schema.
    const KINDS: &'static [&'static Kind];
    /// `(what for, command line)`: the EXAMPLES section.
    const EXAMPLES: &'static [(&'static str, &'static str)];
    /// More sections of the man page, as `(heading, paragraphs)`: OVERHEAD, CAVEATS …
    const NOTES: &'static [(&'static str, &'static str)];

    /// What `--generate` asks for.
    fn generate(&self) -> Option<Generate>;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever ends the program early; a [`Usage`] inside makes the exit code 2.
    fn run(self) -> Result<()>;
}

/// A mistake in how the program was called: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
