//! The metrics of a request, apart from their points.

use std::collections::HashMap;

use super::wire;
use crate::record::{Instrument, Temporality};

/// The type of a metric's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Current values.
    Gauge,
    /// A sum, and whether it is monotonic.
    Sum(Temporality, bool),
    /// Counts between explicit bounds.
    Histogram(Temporality),
    /// Counts between powers of a base.
    Exponential(Temporality),
    /// Quantiles computed by the source.
    Summary,
}

/// The number of `AggregationTemporality`.
const fn number(temporality: Temporality) -> u64 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}

impl Shape {
    /// Returns the shape of an instrument in a kind of that temporality. An up-down counter is
    /// always cumulative: its field holds the current level.
    pub const fn of(instrument: Instrument, temporality: Temporality) -> Self {
        match instrument {
            Instrument::Gauge => Self::Gauge,
            Instrument::Counter => Self::Sum(temporality, true),
            Instrument::UpDownCounter => Self::Sum(Temporality::Cumulative, false),
            Instrument::Histogram => Self::Exponential(temporality),
        }
    }

    /// The field of `Metric` for this shape.
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
            Self::Histogram(time) | Self::Exponential(time) => wire::uint(&mut out, 2, number(time)),
            Self::Sum(time, monotonic) => {
                wire::uint(&mut out, 2, number(time));
                if monotonic {
                    wire::uint(&mut out, 3, 1);
                }
            }
        }
        out
    }
}

/// A metric's message without its points.
struct Head {
    /// Encoded name, description and unit.
    front: Vec<u8>,
    field: u32,
    tail: Vec<u8>,
}

/// The known metrics, each with a small id.
///
/// Those of known kinds are kept. Those named by `metric` records are forgotten after each
/// request, so that a batch bounds their number.
#[derive(Default)]
pub struct Metrics {
    ids: HashMap<(String, String, Shape), usize>,
    heads: Vec<Head>,
    kept: usize,
}

impl Metrics {
    /// Returns the id of a metric. Metrics of equal name, unit and shape are one metric, with the
    /// first description.
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

    /// Makes [`Metrics::forget`] keep the metrics known so far.
    pub fn keep(&mut self) {
        self.kept = self.heads.len();
    }

    /// Forgets all metrics but the kept ones.
    pub fn forget(&mut self) {
        if self.heads.len() > self.kept {
            self.heads.truncate(self.kept);
            self.ids.retain(|_, id| *id < self.kept);
        }
    }

    /// The length of metric `id` with points of `len` bytes.
    pub fn len(&self, id: usize, len: usize) -> usize {
        let head = &self.heads[id];
        head.front.len() + wire::framed(len + head.tail.len())
    }

    /// Appends metric `id` as field 2 of `ScopeMetrics`. The points are encoded as fields 1.
    pub fn write(&self, out: &mut Vec<u8>, id: usize, points: &[u8]) {
        let head = &self.heads[id];
        wire::head(out, 2, self.len(id, points.len()));
        out.extend_from_slice(&head.front);
        wire::head(out, head.field, points.len() + head.tail.len());
        out.extend_from_slice(points);
        out.extend_from_slice(&head.tail);
    }
}
