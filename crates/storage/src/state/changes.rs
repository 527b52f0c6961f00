//! When what was changed, for checkpoints that build on others. Of no influence on anything else: two states that differ in
//! this alone are the same.

use std::collections::BTreeMap;

use tidemark_model::TopicPartition;
use tidemark_segment::SegmentName;

/// The index of the entry that changed something last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed(pub u64);

/// What changed in those parts of the state that do not say so themselves, or are not there any more. Each once, with the
/// index of the entry that did so last.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    objects: BTreeMap<SegmentName, u64>,
    partitions_gone: BTreeMap<TopicPartition, u64>,
}

impl Changes {
    pub(super) fn object(&mut self, name: SegmentName, index: u64) {
        self.objects.insert(name, index);
    }

    pub(super) fn partition_gone(&mut self, at: TopicPartition, index: u64) {
        self.partitions_gone.insert(at, index);
    }

    pub(super) fn objects_since(&self, since: u64) -> impl Iterator<Item = SegmentName> {
        self.objects.iter().filter(move |(_, index)| **index > since).map(|(name, _)| *name)
    }

    pub(super) fn partitions_gone_since(&self, since: u64) -> impl Iterator<Item = TopicPartition> {
        self.partitions_gone.iter().filter(move |(_, index)| **index > since).map(|(at, _)| *at)
    }

    pub(super) fn forget(&mut self, through: u64) {
        self.objects.retain(|_, index| *index > through);
        self.partitions_gone.retain(|_, index| *index > through);
    }
}

impl PartialEq for Changed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changed {}

impl PartialEq for Changes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changes {}
