//! Shared by every program: the command line, the output, and when to stop.
//!
//! A file imports only from those above it in this list.

pub mod diag;
pub mod helper;
pub mod hist;
pub mod lines;
pub mod stdio_check;
pub mod time;
pub mod units;

pub mod stop;

pub mod input;
pub mod jq;
pub mod schedule;

pub mod filter;

pub mod emit;
pub mod program;

pub mod options;

pub mod generate;

pub mod entry;
