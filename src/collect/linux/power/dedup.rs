//! Finds zones that count the same energy, so that the sum of all `counted` records counts nothing twice.

use std::collections::{HashMap, HashSet};

use super::energy_counter::Reading;
use super::zones::Zone;

/// A zone that could be read, and its counter in this sample.
pub struct Measured {
    /// The zone.
    pub zone: Zone,
    /// Its counter.
    pub raw: u64,
    /// Its energy.
    pub reading: Reading,
    /// True if the counter was 0 when it was opened, and not at boot.
    pub from_open: bool,
}

/// Facts from earlier samples.
#[derive(Default)]
pub struct History {
    /// Dies with a counter that was seen to differ from the first of their package.
    different: HashSet<String>,
    /// Dies with a counter that was seen to agree with it, and never to differ since.
    alike: HashSet<String>,
    /// By `psys` zone: the joules that a package has used while the `psys` counter stood still.
    still: HashMap<String, f64>,
}

impl History {
    /// Watches whether the `psys` counters move while packages use energy.
    fn update(&mut self, all: &[Measured]) {
        let packages = all.iter().filter(|it| it.zone.is("package")).filter_map(|it| it.reading.used_joules);
        let most = packages.fold(0.0, f64::max);
        for psys in all.iter().filter(|it| it.zone.is("psys")) {
            let still = self.still.entry(psys.zone.id.clone()).or_default();
            match psys.reading.used_joules {
                Some(used) if used > 0.0 && *still < STILL_JOULES => *still = 0.0,
                Some(_) => *still += most,
                None => {}
            }
        }
    }

    /// Whether the board has connected a `psys` counter. One that is still 0 since boot is not connected; one that
    /// was 0 when it was opened is, until it is seen to stand still. Without a package to compare with, as in virtual
    /// machines, one sample that counted nothing is enough.
    fn is_connected(&self, psys: &Measured, alone: bool) -> bool {
        let still = self.still.get(&psys.zone.id).is_some_and(|joules| *joules >= STILL_JOULES);
        let counts = psys.raw > 0 || (psys.from_open && !(alone && psys.reading.used_joules.is_some()));
        !still && counts
    }
}

/// Whether a zone belongs in the machine's sum, and what contains it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accounting {
    /// Whether it belongs in the sum.
    pub counted: bool,
    /// The `id` of the zone that contains or repeats it.
    pub parent: Option<String>,
}

/// Two readings of one counter in a row differ by less.
const SAME_JOULES: f64 = 0.5;

/// Counters below this can be close to each other by chance.
const ALIKE_JOULES: f64 = 5.0;

/// A `psys` that stands still while a package uses this much is not connected: the coarsest counts whole joules.
const STILL_JOULES: f64 = 10.0;

/// Decides for each zone, in the order given.
///
/// The sum is the platform's counter (`psys`), which contains the packages. Without one that works, it is the
/// packages plus their memory, which packages do not contain. MMIO zones repeat the register zones of the same
/// name, and dies that agree are one counter.
pub fn account(all: &[Measured], history: &mut History) -> Vec<Accounting> {
    history.update(all);
    let repeated: Vec<Option<String>> = all.iter().map(|it| repeats(all, it, history)).collect();
    let alone = !all.iter().any(|it| it.zone.is("package"));
    let works = |it: &Measured| it.zone.is("psys") && history.is_connected(it, alone);
    let first = |(it, repeated): &(&Measured, &Option<String>)| works(it) && repeated.is_none();
    let psys = all.iter().zip(&repeated).find(first).map(|(it, _)| it.zone.id.clone());
    let decide = |(it, repeat): (&Measured, &Option<String>)| {
        let zone = &it.zone;
        let top = zone.inside.is_none();
        let parent = repeat
            .clone()
            .or_else(|| zone.inside.clone())
            .or_else(|| psys.clone().filter(|id| *id != zone.id && !zone.is("psys")));
        let inside_repeated = zone.inside.as_ref().is_some_and(|id| {
            all.iter().zip(&repeated).any(|(other, repeated)| other.zone.id == *id && repeated.is_some())
        });
        let counted = repeat.is_none()
            && !inside_repeated
            && match &psys {
                Some(_) => works(it),
                None => (top && zone.is("package")) || zone.is("dram"),
            };
        Accounting { counted, parent }
    };
    all.iter().zip(&repeated).map(decide).collect()
}

/// The `id` of an earlier zone that counts the same energy.
fn repeats(all: &[Measured], it: &Measured, history: &mut History) -> Option<String> {
    if it.zone.inside.is_some() {
        return None;
    }
    let tops = all.iter().filter(|other| other.zone.inside.is_none() && other.zone.id != it.zone.id);
    if it.zone.mmio() {
        let same = |other: &&Measured| !other.zone.mmio() && other.zone.name == it.zone.name;
        return tops.into_iter().find(same).map(|other| other.zone.id.clone());
    }
    let of_package = |other: &&Measured| {
        !other.zone.mmio()
            && other.zone.package() == it.zone.package()
            && other.zone.domain() == it.zone.domain()
    };
    let first = all.iter().filter(|other| other.zone.inside.is_none()).find(of_package)?;
    if first.zone.id == it.zone.id || history.different.contains(&it.zone.id) {
        return None;
    }
    if !same(first, it) {
        history.alike.remove(&it.zone.id);
        history.different.insert(it.zone.id.clone());
        return None;
    }
    if [first, it].iter().all(|it| it.raw as f64 >= ALIKE_JOULES * it.zone.per_joule) {
        history.alike.insert(it.zone.id.clone());
    }
    history.alike.contains(&it.zone.id).then(|| first.zone.id.clone())
}

/// Whether two counters, read one after the other, can be the same one.
fn same(a: &Measured, b: &Measured) -> bool {
    let apart = a.raw.abs_diff(b.raw);
    // One may have wrapped between the two readings.
    let apart = a.zone.range.map_or(apart, |range| apart.min(range.saturating_sub(apart)));
    (apart as f64) < SAME_JOULES * a.zone.per_joule
}

#[cfg(test)]
mod tests {
    use super::super::zones::path;
    use super::*;

    /// `id name raw`, where the id says the interface and what lies in what.
    fn zones(text: &str) -> Vec<(Zone, u64)> {
        let zone = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let (above, _) = words[0].rsplit_once(':').unwrap();
            let zone = Zone {
                id: words[0].into(),
                inside: above.contains(':').then(|| above.to_owned()),
                control: words[0].split(':').next().unwrap().into(),
                name: words[1].into(),
                range: Some(262_143_328_850),
                per_joule: 1e6,
                one_core: false,
            };
            (zone, words[2].parse().unwrap())
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(zone).collect()
    }

    /// The paths of the counted zones, and of the parents of all zones.
    fn accounted(text: &str, used: Option<&[f64]>, history: &mut History) -> (Vec<String>, Vec<String>) {
        let zones = zones(text);
        let counted =
            |(at, (zone, raw)): (usize, &'_ (Zone, u64))| (zone.clone(), *raw, used.map(|used| used[at]));
        let owned: Vec<_> = zones.iter().enumerate().map(counted).collect();
        let reading = |used_joules| Reading { used_joules, ..Reading::default() };
        let all: Vec<_> = owned
            .iter()
            .map(|(zone, raw, used)| Measured {
                zone: zone.clone(),
                raw: *raw,
                reading: reading(*used),
                from_open: false,
            })
            .collect();
        let only: Vec<_> = zones.iter().map(|(zone, _)| zone.clone()).collect();
        let name = |id: &String| path(&only, only.iter().find(|zone| zone.id == *id).unwrap());
        let accounts = account(&all, history);
        let counted =
            all.iter().zip(&accounts).filter(|(_, account)| account.counted).map(|(it, _)| name(&it.zone.id));
        (counted.collect(), accounts.iter().map(|it| it.parent.as_ref().map_or("-".into(), name)).collect())
    }

    const SERVER: &str = "
        intel-rapl:0 package-0 5000000
        intel-rapl:0:0 dram 700
        intel-rapl:1 package-1 5000001
        intel-rapl:1:0 dram 800";

    const LAPTOP: &str = "
        intel-rapl-mmio:0 package-0 7000000
        intel-rapl:0 package-0 7000000
        intel-rapl:0:0 core 4000000
        intel-rapl:0:1 uncore 100
        intel-rapl:1 psys 9000000";

    #[test]
    fn packages_and_their_memory_are_the_sum() {
        let (counted, parents) = accounted(SERVER, None, &mut History::default());
        assert_eq!(counted, ["package-0", "package-0/dram", "package-1", "package-1/dram"]);
        assert_eq!(parents, ["-", "package-0", "-", "package-1"]);
    }

    #[test]
    fn psys_contains_packages_and_mmio_repeats_them() {
        let (counted, parents) = accounted(LAPTOP, None, &mut History::default());
        assert_eq!(counted, ["psys"]);
        assert_eq!(parents, ["package-0", "psys", "package-0", "package-0", "-"]);
        let alone = "intel-rapl-mmio:0 package-0 7\nintel-rapl-mmio:0:0 dram 7";
        let (counted, _) = accounted(alone, None, &mut History::default());
        assert_eq!(counted, ["mmio/package-0", "mmio/package-0/dram"]);
        let both = "intel-rapl:0 package-0 7\nintel-rapl-mmio:0 package-0 7\nintel-rapl-mmio:0:0 dram 7";
        assert_eq!(accounted(both, None, &mut History::default()).0, ["package-0"]);
    }

    #[test]
    fn a_psys_that_stands_still_is_not_connected() {
        let mut history = History::default();
        let used = |package: f64, psys: f64| [package, package, 0.5, 0.0, psys];
        assert_eq!(accounted(LAPTOP, None, &mut history).0, ["psys"]);
        // It counts in steps that can be longer than a sample.
        for (package, psys) in [(9.0, 0.0), (9.0, 1.0), (9.0, 0.0)] {
            assert_eq!(accounted(LAPTOP, Some(&used(package, psys)), &mut history).0, ["psys"]);
        }
        assert_eq!(accounted(LAPTOP, Some(&used(1.0, 0.0)), &mut history).0, ["package-0"]);
        // And it stays out.
        assert_eq!(accounted(LAPTOP, Some(&used(1.0, 0.1)), &mut history).0, ["package-0"]);
    }

    #[test]
    fn a_psys_that_has_counted_nothing_is_connected_once_it_counts() {
        let (mut history, zero) = (History::default(), LAPTOP.replace("9000000", "0"));
        assert_eq!(accounted(&zero, None, &mut history).0, ["package-0"]);
        assert_eq!(accounted(&zero, Some(&[5.0, 5.0, 0.5, 0.0, 0.0]), &mut history).0, ["package-0"]);
        assert_eq!(accounted(LAPTOP, Some(&[5.0, 5.0, 0.5, 0.0, 9.0]), &mut history).0, ["psys"]);
    }

    #[test]
    fn dies_with_one_counter_are_one() {
        let dies = |second: u64| {
            format!(
                "intel-rapl:0 package-0-die-0 9000000\nintel-rapl:1 package-0-die-1 {second}\nintel-rapl:1:0 dram 5"
            )
        };
        let mut history = History::default();
        let (counted, parents) = accounted(&dies(9_000_100), None, &mut history);
        assert_eq!(counted, ["package-0-die-0"]);
        assert_eq!(parents, ["-", "package-0-die-0", "package-0-die-1"]);
        // Once they have differed, they do not become one by meeting.
        assert_eq!(accounted(&dies(9_600_000), None, &mut history).0.len(), 3);
        assert_eq!(accounted(&dies(9_000_000), None, &mut history).0.len(), 3);
        // Read before and after a wrap.
        assert_eq!(accounted(&dies(9_000_000 + 262_143_328_840), None, &mut History::default()).0.len(), 1);
    }

    #[test]
    fn dies_that_have_counted_little_are_not_taken_for_one() {
        let dies = |first: u64, second: u64| {
            format!("intel-rapl:0 package-0-die-0 {first}\nintel-rapl:1 package-0-die-1 {second}")
        };
        let mut history = History::default();
        // Two zones until they agree, then one, even if they have just wrapped.
        for (first, second, counted) in [
            (0, 100, 2),
            (3_000_000, 2_900_000, 2),
            (9_000_000, 9_000_100, 1),
            (100, 200, 1),
            (1_000_000, 300_000, 2),
        ] {
            assert_eq!(
                accounted(&dies(first, second), None, &mut history).0.len(),
                counted,
                "{first} {second}"
            );
        }
    }

    #[test]
    fn zones_of_one_name_have_paths_of_their_own() {
        let zones: Vec<_> = zones("a:0 package-0 1\na:1 package-0 90000000\na:1:0 core 1")
            .into_iter()
            .map(|it| it.0)
            .collect();
        let paths: Vec<_> = zones.iter().map(|zone| path(&zones, zone)).collect();
        assert_eq!(paths, ["package-0@a:0", "package-0@a:1", "package-0@a:1/core"]);
    }
}
