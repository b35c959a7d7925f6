//! Choosing how to attach.

use anyhow::{Result, anyhow};

pub use super::args::Attach;

/// Tries the ways in order and returns the first that works; only `only`, if given.
///
/// # Errors
/// Those of the last try; if there is nothing to try.
pub fn first<W: PartialEq, T>(
    ways: impl IntoIterator<Item = W>,
    only: Option<W>,
    mut load: impl FnMut(W) -> Result<T>,
) -> Result<T> {
    let mut refused = anyhow!("--attach: not supported by this program on this kernel");
    for way in ways.into_iter().filter(|way| only.as_ref().is_none_or(|only| only == way)) {
        match load(way) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_way_that_works() {
        let mut tried = Vec::new();
        let mut load = |way: u32| {
            tried.push(way);
            if way < 3 { Err(anyhow!("not {way}")) } else { Ok(way) }
        };
        assert_eq!(first([1, 2, 3, 4], None, &mut load).unwrap(), 3);
        assert_eq!(first([1, 2], None, &mut load).unwrap_err().to_string(), "not 2");
        assert_eq!(first([1, 2, 3, 4], Some(4), &mut load).unwrap(), 4);
        assert!(first([], None, &mut load).is_err());
        assert!(first([1], Some(3), &mut load).is_err());
        assert_eq!(tried, [1, 2, 3, 1, 2, 4]);
    }
}
