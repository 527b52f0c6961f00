//! Every object key, in one place. Keys are relative to the prefix of the [bucket](crate::bucket)'s URL.
//!
//! | key | holds |
//! |---|---|
//! | `<cluster>/journals/<journal>/segments/<epoch>-<first>-<last>-<attempt>.segment` | [`crate::segment`], or [`crate::index`]: their first bytes tell |
//! | `<cluster>/journals/<journal>/checkpoints/<epoch>-<index>.checkpoint` | [`crate::checkpoint`] |
//! | `<cluster>/metadata/<number>.snapshot` | [`crate::snapshot`] |
//! | `claims/<generation>.claim` | [`crate::claim`] |
//! | `probes/<random>` | written, read and deleted by [`Bucket::check`](crate::Bucket::check) |
//!
//! Numbers are decimal and zero-padded to their type's full width, so that the order of the bytes is the order of the
//! log. Some S3 servers keep objects as files: no key is the directory of another.

use std::fmt;

use tidemark_model::JournalId;

const SEGMENT_SUFFIX: &str = ".segment";
const CHECKPOINT_SUFFIX: &str = ".checkpoint";
const SNAPSHOT_SUFFIX: &str = ".snapshot";
const CLAIM_SUFFIX: &str = ".claim";
/// What all keys of claims begin with, without the `/` that follows.
pub const CLAIMS: &str = "claims";
/// Digits of the largest `u32`.
const U32_DIGITS: usize = 10;
/// Digits of the largest `u64`.
const U64_DIGITS: usize = 20;
/// Longest cluster id that becomes part of a key. Ours have 22 characters; S3's limit is 1,024 for the whole key.
const MAX_CLUSTER_LEN: usize = 128;

/// A segment's name within its journal. It says which entries of the journal the segment was made from.
///
/// A name is used for one PUT call only. `attempt` sees to that: the leader of `epoch` counts it up for each object it
/// writes, whatever became of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The journal's epoch in which the segment was written.
    pub epoch: u32,
    /// The first journal index whose batches it may hold.
    pub first_index: u64,
    /// The last journal index whose batches it may hold.
    pub last_index: u64,
    pub attempt: u32,
}

/// A checkpoint's name within its journal: the last entry that its state includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointName {
    pub epoch: u32,
    pub index: u64,
}

/// The keys of one journal of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalKeys {
    cluster: String,
    journal: JournalId,
}

/// The keys of what one cluster keeps of its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataKeys {
    cluster: String,
}

/// The key of a claim to the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimKey {
    pub generation: u32,
}

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Segment(JournalKeys, SegmentName),
    Checkpoint(JournalKeys, CheckpointName),
}

/// The cluster id cannot be part of an object key: it must be 1 to 128 letters, digits, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cluster id {0:?} is not 1 to 128 letters, digits, '_' or '-'")]
pub struct BadClusterId(pub String);

impl JournalKeys {
    pub fn new(cluster: &str, journal: JournalId) -> Result<Self, BadClusterId> {
        Ok(Self { cluster: checked(cluster)?, journal })
    }

    /// What the keys of all journals of a cluster begin with, without the `/` that follows.
    pub fn journals(cluster: &str) -> Result<String, BadClusterId> {
        Ok(format!("{}/journals", checked(cluster)?))
    }

    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub fn journal(&self) -> JournalId {
        self.journal
    }

    pub fn segment(&self, name: SegmentName) -> String {
        format!("{}/{name}", self.segments())
    }

    pub fn checkpoint(&self, name: CheckpointName) -> String {
        format!("{}/{name}", self.checkpoints())
    }

    /// What all keys of segments begin with, without the `/` that follows.
    pub fn segments(&self) -> String {
        format!("{}/segments", self.root())
    }

    /// What all keys of checkpoints begin with, without the `/` that follows.
    pub fn checkpoints(&self) -> String {
        format!("{}/checkpoints", self.root())
    }

    fn root(&self) -> String {
        format!("{}/journals/{:0U32_DIGITS$}", self.cluster, self.journal.0)
    }
}

impl MetadataKeys {
    pub fn new(cluster: &str) -> Result<Self, BadClusterId> {
        Ok(Self { cluster: checked(cluster)? })
    }

    /// What all keys of snapshots begin with, without the `/` that follows.
    pub fn root(&self) -> String {
        format!("{}/metadata", self.cluster)
    }

    pub fn snapshot(&self, number: u64) -> String {
        format!("{}/{number:0U64_DIGITS$}{SNAPSHOT_SUFFIX}", self.root())
    }

    /// The number of the snapshot that `key` names, or nothing when it names none.
    pub fn parse(&self, key: &str) -> Option<u64> {
        let name = key.strip_prefix(&self.root())?.strip_prefix('/')?;
        digits(name.strip_suffix(SNAPSHOT_SUFFIX)?, U64_DIGITS)
    }
}

impl ClaimKey {
    pub fn parse(key: &str) -> Option<Self> {
        let name = key.strip_prefix(CLAIMS)?.strip_prefix('/')?.strip_suffix(CLAIM_SUFFIX)?;
        Some(Self { generation: u32::try_from(digits(name, U32_DIGITS)?).ok()? })
    }
}

impl fmt::Display for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLAIMS}/{:0U32_DIGITS$}{CLAIM_SUFFIX}", self.generation)
    }
}

impl Key {
    /// What `key` names, or nothing when it is not one of ours.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let cluster = parts.next()?;
        if parts.next()? != "journals" {
            return None;
        }
        let journal = JournalId(u32::try_from(digits(parts.next()?, U32_DIGITS)?).ok()?);
        let keys = JournalKeys::new(cluster, journal).ok()?;
        let (kind, name) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        match kind {
            "segments" => SegmentName::parse(name).map(|name| Self::Segment(keys, name)),
            "checkpoints" => CheckpointName::parse(name).map(|name| Self::Checkpoint(keys, name)),
            _ => None,
        }
    }
}

impl SegmentName {
    /// Parses the last part of a key.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SEGMENT_SUFFIX)?.split('-');
        let name = Self {
            epoch: u32::try_from(digits(parts.next()?, U32_DIGITS)?).ok()?,
            first_index: digits(parts.next()?, U64_DIGITS)?,
            last_index: digits(parts.next()?, U64_DIGITS)?,
            attempt: u32::try_from(digits(parts.next()?, U32_DIGITS)?).ok()?,
        };
        parts.next().is_none().then_some(name)
    }
}

impl CheckpointName {
    /// Parses the last part of a key.
    pub fn parse(name: &str) -> Option<Self> {
        let (epoch, index) = name.strip_suffix(CHECKPOINT_SUFFIX)?.split_once('-')?;
        Some(Self { epoch: u32::try_from(digits(epoch, U32_DIGITS)?).ok()?, index: digits(index, U64_DIGITS)? })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, first_index, last_index, attempt } = self;
        write!(f, "{epoch:0U32_DIGITS$}-{first_index:0U64_DIGITS$}-{last_index:0U64_DIGITS$}")?;
        write!(f, "-{attempt:0U32_DIGITS$}{SEGMENT_SUFFIX}")
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, index } = self;
        write!(f, "{epoch:0U32_DIGITS$}-{index:0U64_DIGITS$}{CHECKPOINT_SUFFIX}")
    }
}

fn checked(cluster: &str) -> Result<String, BadClusterId> {
    let valid = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if cluster.is_empty() || cluster.len() > MAX_CLUSTER_LEN || !cluster.bytes().all(valid) {
        return Err(BadClusterId(cluster.to_owned()));
    }
    Ok(cluster.to_owned())
}

/// A number of exactly `width` digits: one number has one spelling.
fn digits(text: &str, width: usize) -> Option<u64> {
    (text.len() == width && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
