//! The metrics of a request: what identifies one, and its head and tail on the wire.

use std::collections::HashMap;

use super::wire;
use crate::record::{Instrument, Temporality};

/// The kind of data that a metric holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Values of now.
    Gauge,
    /// A sum, and whether it can only grow.
    Sum(Time, bool),
    /// Counts between explicit bounds.
    Histogram(Time),
    /// Counts between powers of a base.
    Exponential(Time),
    /// Quantiles that somebody else computed.
    Summary,
}

/// The aggregation temporality, by its number in OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Time {
    /// Since the point before.
    Delta = 1,
    /// Since the start time.
    Cumulative = 2,
}

impl Shape {
    /// The shape of an instrument in a kind of that temporality. What can go
    /// down is a level, whatever the record's counters are.
    pub const fn of(instrument: Instrument, temporality: Temporality) -> Self {
        let time = match temporality {
            Temporality::Cumulative => Time::Cumulative,
            Temporality::Delta => Time::Delta,
        };
        match instrument {
            Instrument::Gauge => Self::Gauge,
            Instrument::Counter => Self::Sum(time, true),
            Instrument::UpDownCounter => Self::Sum(Time::Cumulative, false),
            Instrument::Histogram => Self::Exponential(time),
        }
    }

    /// The field of `Metric` that holds it.
    const fn field(self) -> u32 {
        match self {
            Self::Gauge => 5,
            Self::Sum(..) => 7,
            Self::Histogram(_) => 9,
            Self::Exponential(_) => 10,
            Self::Summary => 11,
        }
    }

    fn tail(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Gauge | Self::Summary => {}
            Self::Histogram(time) | Self::Exponential(time) => wire::uint(&mut out, 2, time as u64),
            Self::Sum(time, monotonic) => {
                wire::uint(&mut out, 2, time as u64);
                if monotonic {
                    wire::uint(&mut out, 3, 1);
                }
            }
        }
        out
    }
}

/// One metric: everything of its message but the points.
struct Head {
    /// Name, description and unit.
    front: Vec<u8>,
    field: u32,
    tail: Vec<u8>,
}

/// The metrics known, each by a small number.
///
/// Those of our kinds stay; those that generic records name are forgotten at the
/// end of each request, so that their number is bounded by a batch.
#[derive(Default)]
pub struct Metrics {
    ids: HashMap<(String, String, Shape), usize>,
    heads: Vec<Head>,
    kept: usize,
}

impl Metrics {
    /// The number of that metric. Same name, unit and shape is the same metric,
    /// and the first description counts.
    pub fn id(&mut self, name: &str, description: &str, unit: &str, shape: Shape) -> usize {
        *self.ids.entry((name.to_owned(), unit.to_owned(), shape)).or_insert_with(|| {
            let mut front = Vec::new();
            for (field, text) in [(1, name), (2, description), (3, unit)] {
                wire::text(&mut front, field, text);
            }
            self.heads.push(Head { front, field: shape.field(), tail: shape.tail() });
            self.heads.len() - 1
        })
    }

    /// From now on [`Metrics::forget`] spares those that there are.
    pub fn keep(&mut self) {
        self.kept = self.heads.len();
    }

    /// Forgets all but those kept.
    pub fn forget(&mut self) {
        if self.heads.len() > self.kept {
            self.heads.truncate(self.kept);
            self.ids.retain(|_, id| *id < self.kept);
        }
    }

    /// Appends metric `id` with these points, each a complete field 1, as field 2 of `ScopeMetrics`.
    pub fn write(&self, out: &mut Vec<u8>, id: usize, points: &[u8]) {
        let head = &self.heads[id];
        wire::message(out, 2, |out| {
            out.extend_from_slice(&head.front);
            wire::message(out, head.field, |out| {
                out.extend_from_slice(points);
                out.extend_from_slice(&head.tail);
            });
        });
    }
}
