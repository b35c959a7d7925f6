//! How the bodies of requests are compressed.

use bytes::Bytes;
use clap::ValueEnum;

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

    /// Compresses a body.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn apply(self, bytes: Buffer) -> std::io::Result<Bytes> {
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
