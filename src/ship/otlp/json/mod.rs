//! OTLP/JSON, in both directions: lines in the Collector's file format become protobuf, and bodies
//! become such lines for `--stdout`.
//!
//! One table of the messages serves both. The serde implementations of opentelemetry-proto are not
//! used: reading drops values that they do not understand (`"asDouble":"NaN"`) without an error,
//! and they write `"sum":null`, for which the Collector refuses the whole request.

mod read;
mod schema;
mod write;

pub use self::read::read;
pub use self::write::write;
