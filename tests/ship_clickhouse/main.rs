//! `tele-ship --clickhouse`: what ClickHouse's engine (chdb) and Debian's clickhouse-server store is what was in the
//! lines, and faults of a server neither lose nor repeat a line.

#![cfg(feature = "http")]

#[path = "../support/mod.rs"]
mod support;

mod collector;
mod debian;
mod engine;
mod faults;
mod kills;
mod lines;
mod otel;
