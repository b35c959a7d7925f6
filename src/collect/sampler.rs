//! Runs collectors at every tick.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Collector, Roots, Sample, boot_time};
use crate::common::diag::log;
use crate::common::emit::Emitter;
use crate::common::options::Common;
use crate::common::schedule::Ticker;
use crate::common::stop::Stop;
use crate::common::time::Timestamp;
use crate::record::Kind;

/// The default of `--interval`.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The interval of records that hardly ever change.
const INVENTORY_EVERY: Duration = Duration::from_secs(3600);

/// Reads every source at every tick and writes the `wanted` kinds, until the options or a signal end the run.
///
/// # Errors
/// If stdout fails.
pub fn run(
    common: &Common,
    roots: &Roots,
    sources: &mut [Box<dyn Collector>],
    wanted: &dyn Fn(&Kind) -> bool,
    mut out: Emitter,
    stop: &Stop,
) -> Result<()> {
    let boot = boot_time(roots);
    let (mut sampled, mut inventoried) = (None::<Instant>, None::<Instant>);
    let mut ticker = Ticker::immediate(common.schedule(INTERVAL));
    while let Some(tick) = ticker.next(stop) {
        let now = Instant::now();
        let interval = sampled.replace(now).map(|before| now - before);
        let inventory = tick.write && inventoried.is_none_or(|last| now - last >= INVENTORY_EVERY);
        if inventory {
            inventoried = Some(now);
        }
        let sample = Sample { ts: Timestamp::now(), boot, interval, write: tick.write, inventory, wanted };
        sources.iter_mut().try_for_each(|source| source.collect(&sample, &mut out))?;
        out.flush()?;
        if common.verbose && interval.is_none() {
            for source in &*sources {
                let kinds = source.kinds().iter().filter(|kind| wanted(kind)).map(|kind| kind.name);
                log(format_args!("{}: {}", kinds.collect::<Vec<_>>().join(", "), source.method()));
            }
        }
    }
    out.finish(common.verbose)
}
