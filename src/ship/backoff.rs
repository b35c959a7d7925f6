//! How long to wait before the next attempt: exponential with full jitter, from
//! half a second to half a minute, and never less than the server asked for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);
/// A server that asks for more than this is not believed.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// The attempts at one request.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `wish` is the server's, `most` a cap of ours.
    pub fn next(&mut self, wish: Option<Duration>, most: Duration) -> Duration {
        self.delay(wish, most, random())
    }

    fn delay(&mut self, wish: Option<Duration>, most: Duration, jitter: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST).min(most);
        self.failures += 1;
        ceiling.mul_f64(jitter).max(wish.unwrap_or_default().min(LONGEST_WISH))
    }
}

/// From 0 up to 1. The standard library seeds each of its hash tables at
/// random, which is random enough to keep clients from trying in step.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_obeys_the_server() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..9).map(|_| backoff.delay(None, MOST, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        let wish = Some(Duration::from_secs(7));
        assert_eq!(Backoff::default().delay(wish, MOST, 0.5), Duration::from_secs(7));
        assert_eq!(backoff.delay(wish, MOST, 0.5), Duration::from_secs(15));
        assert_eq!(backoff.delay(None, Duration::from_secs(1), 0.5), Duration::from_millis(500));
    }

    #[test]
    fn jitter_is_full() {
        let draws: Vec<_> = (0..1000).map(|_| random()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert!(draws.iter().any(|draw| *draw < 0.05) && draws.iter().any(|draw| *draw > 0.95));
    }
}
