//! OTLP/JSON, in both directions: lines of the Collector's file format become
//! protobuf, and bodies become such lines for `--stdout`.
//!
//! The mapping is proto3's, but that ids are hexadecimal and enumerations
//! numbers; names of enumerations are read too, as the Collector does. One table of
//! the messages serves reading and writing. The generated types of
//! opentelemetry-proto could do both, but their reader drops without a word a point's
//! value that it does not understand (`"asDouble":"NaN"`), and their writer says
//! `"sum":null`, for which the Collector refuses the whole request.

mod read;
mod schema;
mod write;

pub use self::read::read;
pub use self::write::write;

use self::schema::Message;
use super::Signal;

/// The field of the request, and of the line, that holds everything.
const fn message(signal: Signal) -> &'static Message {
    match signal {
        Signal::Metrics => &schema::METRICS,
        Signal::Logs => &schema::LOGS,
        Signal::Traces => &schema::TRACES,
    }
}
