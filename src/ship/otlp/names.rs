//! Names of metrics and attributes: those of OpenTelemetry's semantic conventions, or the older ones
//! of the Collector's hostmetrics receiver (the `metadata.yaml` of its scrapers).

use std::borrow::Cow;

use clap::ValueEnum;

use super::wire;
use crate::record::Metric;
use crate::ship::line::Value;

/// Which names to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// OpenTelemetry semantic conventions
    #[default]
    Semconv,
    /// As the Collector's hostmetrics receiver emits them
    Hostmetrics,
}

/// How the receiver spells the values of an attribute.
enum Values {
    Same,
    Some(&'static [(&'static str, &'static str)]),
    Prefixed(&'static str),
}

/// TCP states in the semantic conventions, and in gopsutil, which the receiver uses.
const TCP_STATES: &[(&str, &str)] = &[
    ("close_wait", "CLOSE_WAIT"),
    ("closed", "CLOSE"),
    ("closing", "CLOSING"),
    ("established", "ESTABLISHED"),
    ("fin_wait_1", "FIN_WAIT1"),
    ("fin_wait_2", "FIN_WAIT2"),
    ("last_ack", "LAST_ACK"),
    ("listen", "LISTEN"),
    ("syn_received", "SYN_RECV"),
    ("syn_sent", "SYN_SENT"),
    ("time_wait", "TIME_WAIT"),
];

/// Attributes with another key in the receiver: our key, its key, and its values.
const RENAMED: &[(&str, &str, Values)] = &[
    ("cpu.logical_number", "cpu", Values::Prefixed("cpu")),
    ("cpu.mode", "state", Values::Some(&[("iowait", "wait")])),
    ("disk.io.direction", "direction", Values::Same),
    ("network.connection.state", "state", Values::Some(TCP_STATES)),
    ("network.interface.name", "device", Values::Same),
    ("network.io.direction", "direction", Values::Same),
    ("network.transport", "protocol", Values::Same),
    ("system.device", "device", Values::Same),
    ("system.filesystem.mode", "mode", Values::Same),
    ("system.filesystem.mountpoint", "mountpoint", Values::Same),
    ("system.filesystem.state", "state", Values::Same),
    ("system.filesystem.type", "type", Values::Same),
    ("system.memory.state", "state", Values::Some(&[("buffers", "buffered")])),
    ("system.paging.direction", "direction", Values::Some(&[("in", "page_in"), ("out", "page_out")])),
    ("system.paging.fault.type", "type", Values::Same),
    ("system.paging.state", "state", Values::Same),
    ("system.paging.type", "type", Values::Same),
    ("process.state", "status", Values::Same),
];

impl Names {
    /// The schema that the names follow: the version of the conventions that `tests/conventions.rs` compares with.
    /// Empty for the receiver's names, which no schema lists.
    pub const fn schema_url(self) -> &'static str {
        match self {
            Self::Semconv => "https://opentelemetry.io/schemas/1.42.0",
            Self::Hostmetrics => "",
        }
    }

    /// Returns the name of a metric.
    pub fn metric(self, metric: &Metric) -> &'static str {
        match self {
            Self::Semconv => metric.name,
            Self::Hostmetrics => metric.hostmetrics.unwrap_or(metric.name),
        }
    }

    /// Returns the key of an attribute.
    pub fn key(self, key: &'static str) -> &'static str {
        self.renamed(key).map_or(key, |(_, theirs, _)| theirs)
    }

    /// Returns the spelling of a value of the attribute `key`.
    pub fn value<'v>(self, key: &str, value: &'v str) -> Cow<'v, str> {
        match self.renamed(key).map(|(_, _, values)| values) {
            None | Some(Values::Same) => Cow::Borrowed(value),
            Some(Values::Prefixed(prefix)) => Cow::Owned(format!("{prefix}{value}")),
            Some(Values::Some(pairs)) => {
                let pair = pairs.iter().find(|(ours, _)| *ours == value);
                Cow::Borrowed(pair.map_or(value, |(_, theirs)| theirs))
            }
        }
    }

    /// Appends an attribute as field `field`.
    pub fn write(self, out: &mut Vec<u8>, field: u32, key: &'static str, value: &Value<'_>) {
        match (self, value) {
            (Self::Semconv, _) => wire::key_value(out, field, key, value),
            (_, Value::Str(text)) => wire::key_text(out, field, self.key(key), &self.value(key, text)),
            (_, Value::I64(number)) if matches!(self.renamed(key), Some((_, _, Values::Prefixed(_)))) => {
                wire::key_text(out, field, self.key(key), &self.value(key, &number.to_string()));
            }
            _ => wire::key_value(out, field, self.key(key), value),
        }
    }

    fn renamed(self, key: &str) -> Option<&'static (&'static str, &'static str, Values)> {
        match self {
            Self::Semconv => None,
            Self::Hostmetrics => RENAMED.iter().find(|(ours, _, _)| *ours == key),
        }
    }
}
