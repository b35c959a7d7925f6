//! Families of series, and how they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::naming::escape;
use crate::common::time::Timestamp;
use crate::record::HISTOGRAM_BOUNDS_LOG2_NS;
use crate::ship::line::{Fields, Value, get};

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `untyped`
    Untyped,
    /// `histogram`
    Histogram,
    /// `summary`
    Summary,
}

impl Type {
    fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Untyped => "untyped",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// All series of one name.
pub struct Family {
    /// The type.
    pub of_type: Type,
    help: String,
    /// The series by their labels.
    pub series: BTreeMap<String, Series>,
}

/// One series.
pub struct Series {
    /// The current value.
    pub sample: Sample,
    /// The time of its record.
    pub ts: Timestamp,
    /// When the record was received.
    pub received: Timestamp,
    /// When it was last updated, in records added.
    pub updated: u64,
    /// True if it is the sum of deltas.
    pub accumulated: bool,
}

/// The value of a series.
pub enum Sample {
    /// The value of a counter or gauge.
    Number(f64),
    /// The buckets of a histogram.
    Histogram(Histogram),
    /// A summary: count, sum, and pairs of quantile and value.
    Summary(u64, f64, Vec<(f64, f64)>),
}

/// A histogram with explicit bounds.
pub struct Histogram {
    bounds: Vec<f64>,
    /// The number of observations in each bucket: one more than there are bounds.
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Family {
    /// Without series.
    pub fn new(of_type: Type, help: &str) -> Self {
        Self { of_type, help: help.to_owned(), series: BTreeMap::new() }
    }

    /// Sets the value of a series, or adds to it if `add` or if it is accumulated. Otherwise a
    /// value older than the present one is ignored. Returns true if the series is new.
    pub fn set(&mut self, labels: String, new: Series, add: bool) -> bool {
        let Some(series) = self.series.get_mut(&labels) else {
            self.series.insert(labels, new);
            return true;
        };
        if new.accumulated || new.ts >= series.ts && add {
            series.sample.add(new.sample);
        } else if new.ts >= series.ts {
            series.sample = new.sample;
        }
        series.ts = series.ts.max(new.ts);
        (series.received, series.updated) = (new.received, new.updated);
        false
    }

    /// Writes the family.
    pub fn render(&self, name: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {}", escape(&self.help, false));
        let _ = writeln!(out, "# TYPE {name} {}", self.of_type.text());
        for (labels, series) in &self.series {
            series.sample.render(name, labels, out);
        }
    }
}

fn line(out: &mut String, name: &str, labels: &[&str], value: f64) {
    out.push_str(name);
    let mut labels = labels.iter().filter(|labels| !labels.is_empty());
    if let Some(first) = labels.next() {
        let _ = write!(out, "{{{first}");
        labels.for_each(|more| {
            let _ = write!(out, ",{more}");
        });
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

impl Sample {
    /// Reads a summary from a `metric` record.
    pub fn summary(fields: &Fields<'_>, factor: f64) -> Result<Self, String> {
        let count = get(fields, "count").and_then(Value::as_u64).ok_or("count is missing")?;
        let sum = get(fields, "sum").and_then(Value::as_f64).unwrap_or(0.0) * factor;
        let [quantiles, values] = ["quantiles", "values"].map(|name| numbers(fields, name));
        let values = values.into_iter().map(|value| value * factor);
        Ok(Self::Summary(count, sum, quantiles.into_iter().zip(values).collect()))
    }

    fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Number(sum), Self::Number(value)) => *sum += value,
            (Self::Histogram(sum), Self::Histogram(value)) if sum.bounds == value.bounds => {
                sum.counts
                    .iter_mut()
                    .zip(value.counts)
                    .for_each(|(sum, count)| *sum = sum.saturating_add(count));
                sum.sum += value.sum;
                sum.count = sum.count.saturating_add(value.count);
            }
            (Self::Summary(count, sum, quantiles), Self::Summary(more, added, latest)) => {
                *count = count.saturating_add(more);
                *sum += added;
                *quantiles = latest;
            }
            // The bounds have changed: start again.
            (sum, value) => *sum = value,
        }
    }

    fn render(&self, name: &str, labels: &str, out: &mut String) {
        let (count, sum) = match self {
            Self::Number(value) => return line(out, name, &[labels], *value),
            Self::Histogram(histogram) => {
                let mut below = 0u64;
                let bounds = histogram.bounds.iter().map(f64::to_string);
                for (bound, count) in bounds.zip(&histogram.counts) {
                    below = below.saturating_add(*count);
                    line(out, &format!("{name}_bucket"), &[labels, &format!("le=\"{bound}\"")], below as f64);
                }
                line(out, &format!("{name}_bucket"), &[labels, "le=\"+Inf\""], histogram.count as f64);
                (histogram.count, histogram.sum)
            }
            Self::Summary(count, sum, quantiles) => {
                for (quantile, value) in quantiles {
                    line(out, name, &[labels, &format!("quantile=\"{quantile}\"")], *value);
                }
                (*count, *sum)
            }
        };
        line(out, &format!("{name}_sum"), &[labels], sum);
        line(out, &format!("{name}_count"), &[labels], count as f64);
    }
}

impl Histogram {
    /// Converts the exponential histogram in `field`, in nanoseconds, to one in seconds. `None` if
    /// it is invalid.
    pub fn of_record(field: &str, fields: &Fields<'_>, buckets: &Value<'_>) -> Option<Self> {
        let prefix = field.strip_suffix("buckets").unwrap_or_default();
        let companion = |name: &str| get(fields, &format!("{prefix}{name}"));
        let scale =
            i32::try_from(get(fields, "scale")?.as_i64()?).ok().filter(|scale| (-10..=20).contains(scale))?;
        let (low, high) = (*HISTOGRAM_BOUNDS_LOG2_NS.start(), *HISTOGRAM_BOUNDS_LOG2_NS.end());
        let mut counts = vec![0u64; (high - low + 2) as usize];
        counts[0] = companion("zero_count").and_then(Value::as_u64).unwrap_or(0);
        let mut add = |index: i64, count: u64| {
            // The power of two that is the bucket's upper bound, or the next one above it.
            let bound = if scale < 0 { (index + 1) << -scale } else { -(-(index + 1) >> scale) };
            let bucket = (bound.clamp(low.into(), i64::from(high) + 1) - i64::from(low)) as usize;
            counts[bucket] = counts[bucket].saturating_add(count);
        };
        match buckets {
            Value::Counts(buckets) => buckets.iter().for_each(|(index, count)| add((*index).into(), *count)),
            Value::Map(buckets) => {
                for (index, count) in buckets {
                    add(index.parse::<i32>().ok()?.into(), count.as_u64()?);
                }
            }
            _ => return None,
        }
        let bounds = HISTOGRAM_BOUNDS_LOG2_NS.map(|log2| f64::exp2(log2.into()) / 1e9).collect();
        let count = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let sum = companion("sum_us").and_then(Value::as_f64).unwrap_or(0.0) / 1e6;
        Some(Self { bounds, counts, sum, count })
    }

    /// Reads a histogram from a `metric` record, and converts its unit by `factor`.
    pub fn of_metric(fields: &Fields<'_>, factor: f64) -> Result<Self, String> {
        let bounds: Vec<_> = numbers(fields, "bounds").into_iter().map(|bound| bound * factor).collect();
        let counts: Vec<_> = array(fields, "bucket_counts").iter().filter_map(Value::as_u64).collect();
        if !(counts.is_empty() && bounds.is_empty()) && counts.len() != bounds.len() + 1 {
            return Err("bucket_counts must have one element more than bounds".into());
        }
        let sum = get(fields, "sum").and_then(Value::as_f64).unwrap_or(0.0) * factor;
        let total = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let count = match get(fields, "count").and_then(Value::as_u64) {
            Some(count) if counts.is_empty() => count,
            _ => total,
        };
        Ok(Self { bounds, counts, sum, count })
    }
}

fn array<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> &'f [Value<'a>] {
    get(fields, name).and_then(Value::as_array).unwrap_or_default()
}

fn numbers(fields: &Fields<'_>, name: &str) -> Vec<f64> {
    array(fields, name).iter().filter_map(Value::as_f64).collect()
}
