//! Committed offsets of a group: what the store has, and what is on its way there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidemark_model::group::{CommitOffsets, CommittedOffset, FetchOffsets, FetchedOffset};
use tidemark_model::{GroupError, TopicId, TopicPartition};

use super::{Context, Out};
use crate::records::{BadValue, GroupKey, OFFSETS_PER_CHUNK, StoredOffset, decode_offsets, encode_offsets};

#[derive(Debug, Default)]
pub(crate) struct Offsets {
    partitions: BTreeMap<TopicPartition, Partition>,
    /// The partitions of each write that is not stored yet.
    unstored: BTreeSet<(u64, TopicPartition)>,
}

#[derive(Debug, Default)]
struct Partition {
    /// What is fetched.
    stored: Option<StoredOffset>,
    /// What comes after it, by the number of the write; None is a deletion.
    coming: VecDeque<(u64, Option<StoredOffset>)>,
}

/// From when on the retention of a group's offsets counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    SinceCommit,
    /// Milliseconds since the Unix epoch.
    Since(i64),
}

impl Partition {
    fn latest(&self) -> Option<&StoredOffset> {
        self.coming.back().map_or(self.stored.as_ref(), |(_, coming)| coming.as_ref())
    }
}

impl Offsets {
    pub(crate) fn load(&mut self, topic: TopicId, chunk: u32, value: &[u8]) -> Result<(), BadValue> {
        let first = i64::from(chunk) * i64::from(OFFSETS_PER_CHUNK);
        for (place, stored) in decode_offsets(value)? {
            let partition = i32::try_from(first + i64::from(place))
                .map_err(|_| BadValue::Unreadable(format!("chunk {chunk} of offsets")))?;
            let at = TopicPartition::new(topic, partition);
            self.partitions.insert(at, Partition { stored: Some(stored), coming: VecDeque::new() });
        }
        Ok(())
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        let mut last = None;
        self.partitions.keys().map(|at| at.topic).filter(move |topic| last.replace(*topic) != Some(*topic))
    }

    /// Whether nothing is known of any partition, not even a deletion on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Whether there is no offset, or will be none.
    pub(crate) fn is_unused(&self) -> bool {
        self.partitions.values().all(|partition| partition.latest().is_none())
    }

    /// Takes offsets over, to be fetched when they are stored. Answers each in its place.
    ///
    /// `writes` is the number of the last write of the group that was handed out: the next one has these offsets.
    pub(crate) fn commit(
        &mut self,
        request: CommitOffsets,
        writes: u64,
        context: &Context<'_>,
        out: &mut Out,
    ) -> Vec<Result<(), GroupError>> {
        let expires_ms = request
            .retention
            .map(|kept| context.wall_ms.saturating_add(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)));
        let mut commit = |at: TopicPartition, offset: CommittedOffset| {
            if at.partition < 0 {
                return Err(GroupError::UnknownTopicOrPartition);
            }
            // Kafka counts as Java does.
            if offset.metadata.encode_utf16().count() > context.settings.offset_metadata_max_bytes {
                return Err(GroupError::OffsetMetadataTooLarge);
            }
            let CommittedOffset { offset, leader_epoch, metadata } = offset;
            let stored = StoredOffset { offset, leader_epoch, metadata, committed_ms: context.wall_ms, expires_ms };
            self.put(at, Some(stored), writes, out);
            Ok(())
        };
        let offsets = request.offsets.into_iter();
        offsets
            .map(|to| {
                let (offset, leader_epoch, metadata) = (to.offset, to.leader_epoch, to.metadata);
                commit(to.partition, CommittedOffset { offset, leader_epoch, metadata })
            })
            .collect()
    }

    /// What the store has.
    pub(crate) fn fetch(&self, request: &FetchOffsets) -> Vec<FetchedOffset> {
        let fetched = |partition: TopicPartition, stored: Option<&StoredOffset>| {
            let committed = stored.map(|stored| CommittedOffset {
                offset: stored.offset,
                leader_epoch: stored.leader_epoch,
                metadata: stored.metadata.clone(),
            });
            FetchedOffset { partition, result: Ok(committed) }
        };
        let Some(topics) = &request.topics else {
            let all = self.partitions.iter().filter_map(|(at, partition)| Some((*at, partition.stored.as_ref()?)));
            return all.map(|(at, stored)| fetched(at, Some(stored))).collect();
        };
        let partitions = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| TopicPartition::new(topic.topic, *partition)));
        partitions
            .map(|at| fetched(at, self.partitions.get(&at).and_then(|partition| partition.stored.as_ref())))
            .collect()
    }

    pub(crate) fn remove(&mut self, at: TopicPartition, writes: u64, out: &mut Out) {
        if self.partitions.get(&at).is_some_and(|partition| partition.latest().is_some()) {
            self.put(at, None, writes, out);
        }
    }

    pub(crate) fn remove_topic(&mut self, topic: TopicId, writes: u64, out: &mut Out) {
        let all = TopicPartition::new(topic, i32::MIN)..=TopicPartition::new(topic, i32::MAX);
        let partitions: Vec<TopicPartition> = self.partitions.range(all).map(|(at, _)| *at).collect();
        partitions.into_iter().for_each(|at| self.remove(at, writes, out));
    }

    pub(crate) fn remove_all(&mut self, writes: u64, out: &mut Out) {
        let partitions: Vec<TopicPartition> = self.partitions.keys().copied().collect();
        partitions.into_iter().for_each(|at| self.remove(at, writes, out));
    }

    /// Removes what has been kept for long enough, by Kafka's rules (KIP-211): never a topic that the group reads, and
    /// nothing that a commit is on its way for.
    pub(crate) fn expire(
        &mut self,
        expiry: Expiry,
        is_subscribed: impl Fn(&str) -> bool,
        writes: u64,
        context: &Context<'_>,
        out: &mut Out,
    ) {
        let retention = i64::try_from(context.settings.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let expired = |stored: &StoredOffset| match (expiry, stored.expires_ms) {
            (Expiry::Never, _) => false,
            (_, Some(expires_ms)) => context.wall_ms >= expires_ms,
            (Expiry::SinceCommit, None) => context.wall_ms.saturating_sub(stored.committed_ms) >= retention,
            (Expiry::Since(since), None) => context.wall_ms.saturating_sub(since) >= retention,
        };
        let read = |topic: TopicId| context.cluster.topic(topic).is_some_and(|topic| is_subscribed(&topic.name));
        let old = self.partitions.iter().filter(|(at, partition)| {
            partition.coming.is_empty() && partition.stored.as_ref().is_some_and(expired) && !read(at.topic)
        });
        let old: Vec<TopicPartition> = old.map(|(at, _)| *at).collect();
        old.into_iter().for_each(|at| self.remove(at, writes, out));
    }

    /// The store has every write up to `number`.
    pub(crate) fn stored(&mut self, number: u64) {
        while let Some((write, at)) = self.unstored.first().copied().filter(|(write, _)| *write <= number) {
            self.unstored.pop_first();
            let Some(partition) = self.partitions.get_mut(&at) else { continue };
            while partition.coming.front().is_some_and(|(coming, _)| *coming <= write) {
                partition.stored = partition.coming.pop_front().and_then(|(_, stored)| stored);
            }
            if partition.stored.is_none() && partition.coming.is_empty() {
                self.partitions.remove(&at);
            }
        }
    }

    /// What the chunk will be.
    pub(crate) fn record(&self, topic: TopicId, chunk: u32) -> Option<Bytes> {
        let first = i64::from(chunk) * i64::from(OFFSETS_PER_CHUNK);
        let last = first + i64::from(OFFSETS_PER_CHUNK) - 1;
        let (first, last) = (i32::try_from(first).ok()?, i32::try_from(last).unwrap_or(i32::MAX));
        let all = TopicPartition::new(topic, first)..=TopicPartition::new(topic, last);
        let offsets: Vec<(u8, &StoredOffset)> = self
            .partitions
            .range(all)
            .filter_map(|(at, partition)| Some(((at.partition - first) as u8, partition.latest()?)))
            .collect();
        (!offsets.is_empty()).then(|| encode_offsets(&offsets))
    }

    fn put(&mut self, at: TopicPartition, offset: Option<StoredOffset>, writes: u64, out: &mut Out) {
        let next = writes + 1;
        let partition = self.partitions.entry(at).or_default();
        // What was not handed out yet never was.
        if partition.coming.back().is_some_and(|(write, _)| *write == next) {
            partition.coming.pop_back();
        }
        partition.coming.push_back((next, offset));
        self.unstored.insert((next, at));
        out.changed(GroupKey::Offsets(at.topic, (at.partition / i32::from(OFFSETS_PER_CHUNK)) as u32));
    }
}
