//! How a program is attached: the cheapest way that the kernel takes.

use std::fmt;

/// The ways in which a tracer can hook into the kernel, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Attach {
    /// A tracepoint with typed arguments, which are read without helper calls.
    TpBtf,
    /// A tracepoint with the same arguments, untyped.
    RawTp,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
        })
    }
}
