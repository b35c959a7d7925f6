//! telepipe: system telemetry as JSON lines.
//!
//! Each program in `src/bin` measures one signal and writes one JSON object per
//! line; `tele-ship` reads such lines and delivers them. This library is what
//! the programs share; it is not a public interface.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::print_stderr))]

pub mod bpf;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod emit;
pub mod filter;
pub mod generate;
pub mod input;
pub mod opened;
pub mod record;
pub mod say;
pub mod ship;
pub mod stop;
pub mod ticker;
