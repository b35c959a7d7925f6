//! How a program is attached: the cheapest way that the kernel takes.

use std::fmt;

use anyhow::{Result, anyhow};

/// The ways in which a tracer can hook into the kernel, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Attach {
    /// A tracepoint with typed arguments, which are read without helper calls.
    TpBtf,
    /// A tracepoint with the same arguments, untyped.
    RawTp,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
        })
    }
}

impl Attach {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::TpBtf, Self::RawTp];
}

/// What comes of the first way that the kernel takes, or of the only one that was asked for; where it takes none, why
/// not the last.
///
/// # Errors
/// Those of the last way; if there is none to try.
pub fn first<W: PartialEq, T>(
    ways: impl IntoIterator<Item = W>,
    only: Option<W>,
    mut load: impl FnMut(W) -> Result<T>,
) -> Result<T> {
    let mut refused = anyhow!("this kernel has no such hooks");
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
