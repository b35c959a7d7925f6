//! telepipe: system telemetry as JSON lines.
//!
//! Each program in `src/bin` measures one signal and writes one JSON object per line; `tele-ship` reads such lines and
//! delivers them. This library is the code that the programs share. It is not a public interface.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::print_stderr))]

pub mod bpf;
pub mod collect;
pub mod common;
pub mod exposition;
#[cfg(feature = "http")]
pub mod http;
pub mod record;
pub mod ship;
pub mod system;
