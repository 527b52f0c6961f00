//! What Tidemark keeps in object storage, and the client that puts it there and reads it back.
//!
//! A flush meets the modules in this order: [`names`] gives an object its key, [`segment`] lays out batches and their
//! index (or [`index`] lists runs that are long past, or [`checkpoint`] wraps a journal's state), and the [`bucket`] stores it. A cold read goes the other way.
//! Every format is versioned, checksummed, and decoded within bounds: hostile bytes give an error and nothing else.

pub mod bucket;
pub mod checkpoint;
pub mod format;
pub mod index;
mod metrics;
pub mod names;
pub mod segment;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use bucket::{Bucket, StoreError};
pub use checkpoint::Checkpoint;
pub use format::FormatError;
pub use index::IndexObject;
pub use names::{CheckpointName, JournalKeys, SegmentName};
pub use segment::{EncodedSegment, SegmentIndex, SegmentWriter};
