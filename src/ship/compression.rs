//! How the bodies of requests are compressed.

use std::io::{self, Read as _};

use bytes::Bytes;
use clap::ValueEnum;
use flate2::read::GzDecoder;

use super::pool::Buffer;
use crate::http::gzip;

/// The fastest level that is not a trade of ratio for speed (those are negative).
const ZSTD_LEVEL: i32 = 1;

/// A method; its name is the value of `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// gzip
    Gzip,
    /// zstd
    Zstd,
    /// No compression
    None,
}

impl Compression {
    /// The value of `Content-Encoding`; `None` for no compression.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::None => None,
        }
    }

    /// The method of that name; no compression if there is no name, or it is unknown.
    pub fn named(name: Option<&str>) -> Self {
        let all = [Self::Gzip, Self::Zstd];
        all.into_iter().find(|method| method.name() == name).unwrap_or(Self::None)
    }

    /// Restores what [`Compression::apply`] made.
    ///
    /// # Errors
    /// If it is something else.
    pub fn undo(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match self {
            Self::Gzip => GzDecoder::new(bytes).read_to_end(&mut plain).map(drop)?,
            Self::Zstd => plain = zstd::stream::decode_all(bytes)?,
            Self::None => plain.extend_from_slice(bytes),
        }
        Ok(plain)
    }

    /// Compresses a body.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn apply(self, bytes: Buffer) -> io::Result<Bytes> {
        match self {
            Self::Gzip => Ok(gzip(&bytes).into()),
            Self::Zstd => {
                let mut out = zstd::bulk::compress(&bytes, ZSTD_LEVEL)?;
                out.shrink_to_fit(); // its capacity is that of the worst case
                Ok(out.into())
            }
            Self::None => Ok(Bytes::from_owner(bytes)),
        }
    }
}
