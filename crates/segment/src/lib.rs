//! What Tidemark keeps in object storage, and the client that puts it there and reads it back.
//!
//! A flush meets the modules in this order: [`names`] gives an object its key, [`segment`] lays out batches and their
//! index (or [`index`] lists runs that are long past, [`checkpoint`] wraps a journal's state, [`snapshot`] a cluster's
//! metadata), and the [`bucket`] stores it, when the cluster holds the [`claim`] to it. A cold read goes the other way.
//! Every format is versioned, checksummed, and decoded within bounds: hostile bytes give an error and nothing else.

pub mod bucket;
pub mod checkpoint;
pub mod claim;
pub mod format;
pub mod index;
mod metrics;
pub mod names;
pub mod segment;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use bucket::{Bucket, StoreError};
pub use checkpoint::Checkpoint;
pub use claim::Holder;
pub use format::FormatError;
pub use index::IndexObject;
pub use names::{CheckpointName, JournalKeys, MetadataKeys, SegmentName};
pub use segment::{EncodedSegment, SegmentIndex, SegmentWriter};
pub use snapshot::MetadataSnapshot;
