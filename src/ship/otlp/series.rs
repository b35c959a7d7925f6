//! Start times of cumulative counters.
//!
//! A counter starts at its record's `start_ts`. If its value goes back although `start_ts` has not
//! changed (the device was replaced, the counter wrapped), it starts again at the time of its
//! previous point.
//!
//! The state follows the lines in the order of their times. It keeps the times of the latest
//! restarts, so that lines encoded again, after a split or a retry, get the same start times.
//! [`Series`] can be serialized: an encoder with the restored state encodes the following lines to
//! the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::mem::{size_of, take};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::accessors::{Number, hex};

/// The approximate memory in bytes that all series may take. Above it, those not used for longest
/// are evicted, and a counter of theirs that goes back at that moment is not noticed.
const MAX_WEIGHT: usize = 64 << 20;

/// The number of restarts kept for each counter. After more than these, lines that are encoded again can get an
/// earlier start time.
const MAX_RESTARTS: usize = 256;

/// The most keys of maps in one series. Above it, all are evicted.
const MAX_KEYS: usize = 1 << 12;

/// The last values of the counters of every series.
///
/// Two generations approximate least recently used: a series moves to the recent one when it is
/// used. When that is full, the older one is dropped and the recent one takes over from it.
#[derive(Serialize, Deserialize)]
pub struct Series {
    recent: Generation,
    older: Generation,
    evicted: u64,
    #[serde(skip, default = "max_weight")]
    max_weight: usize,
}

fn max_weight() -> usize {
    MAX_WEIGHT
}

impl Default for Series {
    fn default() -> Self {
        Self::with_max_weight(MAX_WEIGHT)
    }
}

impl Series {
    /// Without any series. `max_weight` is in bytes.
    pub fn with_max_weight(max_weight: usize) -> Self {
        let (recent, older) = <(Generation, Generation)>::default();
        Self { recent, older, evicted: 0, max_weight }
    }

    /// Returns the counters of the series `name`, a new one with `width` counters if it is unknown.
    pub fn get(&mut self, name: &[u8], width: usize) -> &mut Counters {
        let index = match self.recent.by_name.get(name) {
            Some(index) => *index,
            None => self.add(name, width),
        };
        self.recent.last = index;
        &mut self.recent.all[index]
    }

    fn add(&mut self, name: &[u8], width: usize) -> usize {
        let known = self.older.by_name.remove(name).map(|index| take(&mut self.older.all[index]));
        let counters = known.unwrap_or_else(|| Counters {
            weight: 2 * size_of::<Counters>() + name.len() + width * size_of::<Counter>(),
            ..Counters::default()
        });
        self.make_room(counters.weight);
        self.recent.add(name.into(), counters)
    }

    /// Accounts for `count` keys added to the series that [`Series::get`] returned last.
    pub fn add_keys(&mut self, count: usize) {
        let weight = count * 2 * size_of::<Counter>();
        self.recent.weight += weight;
        let last = self.recent.last;
        if let Some(counters) = self.recent.all.get_mut(last) {
            counters.weight += weight;
            self.evicted += take(&mut counters.evicted);
        }
    }

    fn make_room(&mut self, weight: usize) {
        if self.recent.weight + weight > self.max_weight / 2 && !self.recent.all.is_empty() {
            let dropped = std::mem::replace(&mut self.older, take(&mut self.recent));
            self.evicted += dropped.by_name.len() as u64;
        }
    }

    /// The number of series, and of keys of maps, evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of series kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.recent.by_name.len() + self.older.by_name.len()
    }
}

#[derive(Default)]
struct Generation {
    by_name: HashMap<Box<[u8]>, usize>,
    all: Vec<Counters>,
    weight: usize,
    last: usize,
}

impl Generation {
    fn add(&mut self, name: Box<[u8]>, counters: Counters) -> usize {
        self.weight += counters.weight;
        self.by_name.insert(name, self.all.len());
        self.all.push(counters);
        self.all.len() - 1
    }
}

/// As pairs of the hexadecimal name and the counters: JSON has no maps with such keys.
impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names: Vec<_> = self.by_name.iter().collect();
        names.sort_unstable_by_key(|(_, index)| **index);
        let text = |name: &[u8]| name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        serializer.collect_seq(names.into_iter().map(|(name, index)| (text(name), &self.all[*index])))
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut generation = Self::default();
        for (name, counters) in Vec::<(String, Counters)>::deserialize(deserializer)? {
            let name = hex(&name).ok_or_else(|| serde::de::Error::custom("a name is not hexadecimal"))?;
            generation.add(name.into(), counters);
        }
        Ok(generation)
    }
}

/// The counters of one series: those of the records with the same host, kind and attributes.
#[derive(Default, Serialize, Deserialize)]
pub struct Counters {
    /// The time of the newest record.
    newest: u64,
    all: Vec<Counter>,
    keys: BTreeMap<Box<str>, usize>,
    weight: usize,
    #[serde(skip)]
    ts: u64,
    #[serde(skip)]
    start: u64,
    /// The time of the newest record before the current one, if the current one is newer.
    #[serde(skip)]
    before: Option<u64>,
    #[serde(skip)]
    added: usize,
    #[serde(skip)]
    evicted: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    last: Option<Number>,
    /// The latest times at which it started again, oldest first.
    restarts: Vec<u64>,
}

impl Counters {
    /// Begins a record measured at `ts`, with `start_ts` `start`, or 0.
    pub fn turn_to(&mut self, ts: u64, start: u64) -> &mut Self {
        self.before = (ts > self.newest).then_some(self.newest);
        self.newest = self.newest.max(ts);
        (self.ts, self.start) = (ts, start);
        self
    }

    /// Returns the index of the counter for `key` in the map at `index`, which is below `width`.
    pub fn keyed(&mut self, index: usize, width: usize, key: &str) -> usize {
        let number = match self.keys.get(key) {
            Some(number) => *number,
            None => {
                if self.keys.len() >= MAX_KEYS {
                    self.evicted += self.keys.len() as u64;
                    self.keys.clear();
                    self.all.truncate(width);
                }
                self.added += 1;
                self.keys.insert(key.into(), self.keys.len());
                self.keys.len() - 1
            }
        };
        width * (1 + number) + index
    }

    /// The number of keys added since this was last called.
    pub fn take_added(&mut self) -> usize {
        take(&mut self.added)
    }

    /// Returns when the counter at `index` started, given its value in the current record.
    pub fn start(&mut self, index: usize, value: Number) -> u64 {
        if self.all.len() <= index {
            self.all.resize(index + 1, Counter::default());
        }
        let (ts, start, counter) = (self.ts, self.start, &mut self.all[index]);
        if let Some(before) = self.before {
            let went_back = counter.last.is_some_and(|last| value.is_below(last));
            if went_back && start <= before {
                counter.restart(before);
            }
            counter.last = Some(value);
        }
        let restart = counter.restarts.iter().rev().find(|at| **at < ts);
        restart.map_or(start, |at| start.max(*at))
    }
}

impl Counter {
    fn restart(&mut self, at: u64) {
        if self.restarts.len() == MAX_RESTARTS {
            self.restarts.remove(0);
        }
        self.restarts.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of a series at ascending seconds, and the start time of each.
    fn starts(series: &mut Series, name: &str, values: &[(u64, i64)]) -> Vec<u64> {
        let start = |&(ts, value): &(u64, i64)| {
            series.get(name.as_bytes(), 1).turn_to(ts, 0).start(0, Number::Int(value))
        };
        values.iter().map(start).collect()
    }

    #[test]
    fn memory_is_bounded_and_the_least_used_series_are_evicted_and_counted() {
        let mut series = Series::with_max_weight(200_000);
        assert_eq!(starts(&mut series, "used", &[(1, 5)]), [0]);
        for n in 0..100_000u64 {
            starts(&mut series, &format!("once {n}"), &[(2 + n, 5)]);
            if n % 100 == 0 {
                assert_eq!(starts(&mut series, "used", &[(2 + n, 6)]), [0]);
            }
            assert!(series.recent.weight + series.older.weight <= 200_000);
        }
        assert_eq!(series.evicted(), 100_001 - series.kept() as u64);
        assert!((100..2000).contains(&series.kept()), "{}", series.kept());
        assert_eq!(starts(&mut series, "used", &[(200_000, 1)]), [99_902]);
        assert_eq!(starts(&mut series, "once 5", &[(200_000, 1)]), [0]);
    }

    #[test]
    fn keys_are_bounded_and_counted() {
        let mut series = Series::default();
        for n in 0..10_000u64 {
            let counters = series.get(b"map", 2).turn_to(n, 0);
            let index = counters.keyed(1, 2, &n.to_string());
            assert!(index < 2 * (MAX_KEYS + 1));
            counters.start(index, Number::Int(1));
            let added = counters.take_added();
            series.add_keys(added);
        }
        assert_eq!(series.evicted(), 2 * MAX_KEYS as u64);
    }

    #[test]
    fn restored_state_continues_alike() {
        let mut series = Series::with_max_weight(20_000);
        for n in 0..200 {
            starts(&mut series, &format!("{}\0\u{ff}", n % 60), &[(n, 7 + n as i64 % 3)]);
        }
        let state = serde_json::to_string(&series).unwrap();
        let mut restored: Series = serde_json::from_str(&state).unwrap();
        restored.max_weight = series.max_weight;
        assert_eq!(serde_json::to_string(&restored).unwrap(), state);
        for n in 200..400 {
            let name = format!("{}\0\u{ff}", n % 70);
            let values = [(n, 7 + n as i64 % 3)];
            assert_eq!(starts(&mut restored, &name, &values), starts(&mut series, &name, &values));
        }
        assert_eq!((restored.evicted(), restored.kept()), (series.evicted(), series.kept()));
    }
}
