//! The spool of `--spool DIR`: lines on disk from the moment they are read until every sink has delivered them.
//!
//! Invariants, which the tests check with random operations, failures and crashes:
//!
//! 1. A line is committed when its block and the index entry of the block are synced. Only committed lines are
//!    delivered, and a committed line is never lost: a segment is deleted only when every durable cursor has passed it.
//! 2. A line has its offset for good. An offset is never given to another line, whatever was lost.
//! 3. A sink has a cursor, or one for each signal. A batch is in its durable cursor, with its range and where it was
//!    split, before its first attempt. A restart makes the batches of the cursor again, byte for byte, and then goes on
//!    with the lines after them. So lines are delivered twice only if they were in such a batch.
//! 4. The lines for a cursor come in the order of their offsets, each with its bytes as they were read. What is damaged
//!    or missing is a gap: counted, set aside if it can be read, and passed over.
//!    After a power failure that can be lines of the last commit, if it had not succeeded.
//! 5. Opening succeeds whatever the files contain. What follows the last whole block is cut off and counted.
//!
//! The files of a spool:
//!
//! | name | content |
//! |---|---|
//! | `OFFSET.ndjson` | a segment: lines as they were read, from the one with that offset on |
//! | `OFFSET.index` | its blocks: position, offset, time, lines for each signal, size and CRC-32 |
//! | `SINK.cursor`, `SINK-SIGNAL.cursor` | what was delivered, and the batches on their way |
//! | `SINK.OFFSET.state`, `SINK-metrics.OFFSET.state` | the state of its encoder before the line with that offset |
//! | `input.positions` | how far the files of `--follow` were read |
//! | `….damaged` | what was set aside |
//! | `lock` | locked by the process that uses the spool |

pub mod cursor;
pub mod disk;
pub mod feeder;
pub mod inspect;
pub mod progress;
pub mod segment;
pub mod store;
pub mod writer;

#[cfg(test)]
mod model;
