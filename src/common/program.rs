//! The trait [`Program`]: the kinds of records that a program writes, its examples, and how it runs.
//!
//! A program is a struct that derives [`clap::Parser`] and implements [`Program`]; its `main` calls
//! [`super::entry::main`]. Parser, help, man page and completions come from that one declaration.

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
    /// The page telepipe(7), about all programs
    #[value(hide = true)]
    Overview,
}

/// A program of this package.
pub trait Program: Parser {
    /// The kinds of records it writes: the FIELDS section of its man page, and its schema.
    const KINDS: &'static [&'static Kind];
    /// `(what for, command line)`: the EXAMPLES section.
    const EXAMPLES: &'static [(&'static str, &'static str)];
    /// More sections of the man page, such as OVERHEAD and CAVEATS: headings after `# `, and paragraphs.
    const NOTES: &'static str;

    /// Does the work.
    ///
    /// # Errors
    /// Anything that ends the program early. A [`Usage`] makes the exit code 2.
    fn run(self) -> Result<()>;
}

/// An error in how the program was called: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Returns a [`Usage`] error, as `anyhow::bail!` does other errors.
#[macro_export]
macro_rules! bail_usage {
    ($($message:tt)*) => {
        return Err($crate::common::program::Usage(format!($($message)*)).into())
    };
}
