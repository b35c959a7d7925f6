//! State of each device that a file lists, kept from one sample to the next.
//!
//! Devices come and go, and a name can return as another device: `id` distinguishes
//! them. A device that appears during the run began counting after the previous
//! sample, which is therefore its `start_ts`.

use std::time::Duration;

use super::Sample;
use crate::common::time::Timestamp;

/// The devices of one file, in the order in which it lists them.
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The index of the slot expected next.
    cursor: usize,
    /// The number of the pass, and the times of this pass and the previous one.
    pass: u64,
    now: Option<Timestamp>,
    before: Option<Timestamp>,
    /// Whether the previous sample could not read the file.
    missed: bool,
}

/// One device.
pub struct Slot<T> {
    key: Vec<u8>,
    id: u64,
    pass: u64,
    before: Option<Timestamp>,
    /// The name as valid UTF-8.
    pub name: String,
    /// When its counting began; `None` means boot, for a device that the first pass found.
    pub since: Option<Timestamp>,
    /// The caller's state.
    pub data: T,
}

impl<T> Slots<T> {
    /// Starts without devices.
    pub fn new() -> Self {
        Self { slots: Vec::new(), cursor: 0, pass: 0, now: None, before: None, missed: false }
    }

    /// Begins a pass over the file. Returns the interval for rates, or `None` if the
    /// previous sample could not read the file.
    pub fn begin(&mut self, sample: &Sample<'_>) -> Option<Duration> {
        self.before = self.now.replace(sample.ts);
        self.pass += 1;
        self.cursor = 0;
        if std::mem::take(&mut self.missed) { None } else { sample.interval }
    }

    /// Notes that the file could not be read in this sample.
    pub fn miss(&mut self) {
        self.missed = true;
    }

    /// The slot of a device; `new` makes the state of one that the previous pass did not find.
    pub fn slot(&mut self, key: &[u8], id: u64, new: impl FnOnce(&str) -> T) -> &mut Slot<T> {
        let Self { slots, cursor, pass, before, .. } = self;
        let is_it = |slot: &Slot<T>| slot.key == key && slot.id == id;
        // Files keep their order, so the first comparison nearly always succeeds.
        let (behind, ahead) = slots.split_at((*cursor).min(slots.len()));
        let found = ahead.iter().position(is_it).map(|at| behind.len() + at);
        let at = found.or_else(|| behind.iter().position(is_it)).unwrap_or_else(|| {
            let name = String::from_utf8_lossy(key).into_owned();
            let data = new(&name);
            slots.push(Slot { key: key.to_owned(), id, pass: 0, before: None, name, since: *before, data });
            slots.len() - 1
        });
        if at + 1 < slots.len() {
            *cursor = at + 1;
        }
        let slot = &mut slots[at];
        slot.pass = *pass;
        slot.before = *before;
        slot
    }

    /// All slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot<T>> {
        self.slots.iter_mut()
    }

    /// Ends the pass: drops the devices that it did not find.
    pub fn end(&mut self) {
        let pass = self.pass;
        self.slots.retain(|slot| slot.pass == pass);
    }
}

impl<T> Slot<T> {
    /// Notes that the counts went back: another device took the name, or the driver restarted.
    pub fn restart(&mut self) {
        self.since = self.before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(slots: &mut Slots<u32>, second: u64, keys: &str) -> Vec<(String, u32, Option<u64>)> {
        let sample = Sample {
            ts: Timestamp::from_secs(second),
            boot: None,
            interval: Some(Duration::from_secs(1)),
            write: true,
            inventory: false,
            wanted: &|_| true,
        };
        slots.begin(&sample);
        let seen = keys.split_whitespace().map(|key| {
            let slot = slots.slot(key.as_bytes(), 0, |_| 0);
            slot.data += 1;
            (slot.name.clone(), slot.data, slot.since.map(|ts| ts.0 / 1_000_000_000))
        });
        let seen = seen.collect();
        slots.end();
        seen
    }

    fn row(name: &str, times: u32, since: Option<u64>) -> (String, u32, Option<u64>) {
        (name.into(), times, since)
    }

    #[test]
    fn devices_come_and_go() {
        let mut slots = Slots::new();
        assert_eq!(pass(&mut slots, 10, "a b c"), [row("a", 1, None), row("b", 1, None), row("c", 1, None)]);
        // One is inserted and began after second 10; one leaves.
        assert_eq!(
            pass(&mut slots, 11, "x a c"),
            [row("x", 1, Some(10)), row("a", 2, None), row("c", 2, None)]
        );
        // One returns as a new device, and the order changes.
        let back = [row("c", 3, None), row("b", 1, Some(11)), row("a", 3, None), row("x", 2, Some(10))];
        assert_eq!(pass(&mut slots, 12, "c b a x"), back);
        assert_eq!(pass(&mut slots, 13, ""), []);
        assert_eq!(pass(&mut slots, 14, "a"), [row("a", 1, Some(13))]);
    }

    #[test]
    fn a_different_id_is_a_different_device() {
        let mut slots = Slots::new();
        slots.slot(b"sda", 1, |_| 1).data = 7;
        assert_eq!(slots.slot(b"sda", 2, |_| 1).data, 1);
        assert_eq!(slots.slot(b"sda", 1, |_| 1).data, 7);
    }

    #[test]
    fn no_rate_across_a_sample_that_failed() {
        let (mut slots, ts) = (Slots::<()>::new(), Timestamp(0));
        let interval = Some(Duration::from_millis(500));
        let sample = Sample { ts, boot: None, interval, write: true, inventory: false, wanted: &|_| true };
        assert_eq!(slots.begin(&sample), interval);
        slots.miss();
        assert_eq!(slots.begin(&sample), None);
        assert_eq!(slots.begin(&sample), interval);
    }
}
