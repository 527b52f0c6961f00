//! `common.proto`.

use tidemark_model::storage::{AbortedTransaction, Acks, Appended, EpochEnd, FoundOffset, OffsetSpec};
use tidemark_model::{Batch, StorageError, TopicId, TopicPartition};
use uuid::Uuid;

use super::{Malformed, size};
use crate::proto as wire;

impl From<TopicId> for wire::TopicId {
    fn from(TopicId(id): TopicId) -> Self {
        let (high, low) = id.as_u64_pair();
        Self { high, low }
    }
}

impl From<wire::TopicId> for TopicId {
    fn from(wire::TopicId { high, low }: wire::TopicId) -> Self {
        Self(Uuid::from_u64_pair(high, low))
    }
}

impl From<TopicPartition> for wire::TopicPartition {
    fn from(TopicPartition { topic, partition }: TopicPartition) -> Self {
        let wire::TopicId { high, low } = topic.into();
        Self { topic_high: high, topic_low: low, partition }
    }
}

impl From<wire::TopicPartition> for TopicPartition {
    fn from(wire::TopicPartition { topic_high, topic_low, partition }: wire::TopicPartition) -> Self {
        Self { topic: wire::TopicId { high: topic_high, low: topic_low }.into(), partition }
    }
}

impl From<Batch> for wire::Batch {
    fn from(batch: Batch) -> Self {
        let body = batch.body().clone();
        Self { base_offset: batch.base_offset, leader_epoch: batch.leader_epoch, body }
    }
}

impl TryFrom<wire::Batch> for Batch {
    type Error = Malformed;

    fn try_from(wire::Batch { base_offset, leader_epoch, body }: wire::Batch) -> Result<Self, Malformed> {
        Ok(Self::from_body(base_offset, leader_epoch, body)?)
    }
}

impl From<Acks> for wire::Acks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::None => Self::None,
            Acks::Leader => Self::Leader,
            Acks::All => Self::All,
        }
    }
}

impl TryFrom<wire::Acks> for Acks {
    type Error = Malformed;

    fn try_from(acks: wire::Acks) -> Result<Self, Malformed> {
        match acks {
            wire::Acks::Unspecified => Err(Malformed::Missing("acks")),
            wire::Acks::None => Ok(Self::None),
            wire::Acks::Leader => Ok(Self::Leader),
            wire::Acks::All => Ok(Self::All),
        }
    }
}

/// An enum field, whose number may be one that we do not know.
pub(super) fn acks(number: i32) -> Result<Acks, Malformed> {
    wire::Acks::try_from(number).map_err(|_| Malformed::OutOfRange("acks"))?.try_into()
}

impl From<Appended> for wire::Appended {
    fn from(Appended { base_offset, log_append_time_ms, log_start_offset }: Appended) -> Self {
        Self { base_offset, log_append_time_ms, log_start_offset }
    }
}

impl From<wire::Appended> for Appended {
    fn from(wire::Appended { base_offset, log_append_time_ms, log_start_offset }: wire::Appended) -> Self {
        Self { base_offset, log_append_time_ms, log_start_offset }
    }
}

impl From<AbortedTransaction> for wire::AbortedTransaction {
    fn from(AbortedTransaction { first_offset, last_offset, producer_id }: AbortedTransaction) -> Self {
        Self { first_offset, last_offset, producer_id }
    }
}

impl From<wire::AbortedTransaction> for AbortedTransaction {
    fn from(wire::AbortedTransaction { first_offset, last_offset, producer_id }: wire::AbortedTransaction) -> Self {
        Self { first_offset, last_offset, producer_id }
    }
}

impl From<OffsetSpec> for wire::OffsetSpec {
    fn from(spec: OffsetSpec) -> Self {
        use wire::offset_spec::{Spec, Special};
        let special = match spec {
            OffsetSpec::Timestamp(timestamp) => return Self { spec: Some(Spec::Timestamp(timestamp)) },
            OffsetSpec::Earliest => Special::Earliest,
            OffsetSpec::Latest => Special::Latest,
            OffsetSpec::LastStable => Special::LastStable,
            OffsetSpec::MaxTimestamp => Special::MaxTimestamp,
            OffsetSpec::EarliestLocal => Special::EarliestLocal,
            OffsetSpec::LatestTiered => Special::LatestTiered,
            OffsetSpec::EarliestPendingUpload => Special::EarliestPendingUpload,
        };
        Self { spec: Some(Spec::Special(special.into())) }
    }
}

impl TryFrom<wire::OffsetSpec> for OffsetSpec {
    type Error = Malformed;

    fn try_from(wire::OffsetSpec { spec }: wire::OffsetSpec) -> Result<Self, Malformed> {
        use wire::offset_spec::{Spec, Special};
        let special = match spec.ok_or(Malformed::Missing("spec"))? {
            Spec::Timestamp(timestamp) => return Ok(Self::Timestamp(timestamp)),
            Spec::Special(number) => Special::try_from(number).map_err(|_| Malformed::OutOfRange("special"))?,
        };
        match special {
            Special::Unspecified => Err(Malformed::Missing("special")),
            Special::Earliest => Ok(Self::Earliest),
            Special::Latest => Ok(Self::Latest),
            Special::LastStable => Ok(Self::LastStable),
            Special::MaxTimestamp => Ok(Self::MaxTimestamp),
            Special::EarliestLocal => Ok(Self::EarliestLocal),
            Special::LatestTiered => Ok(Self::LatestTiered),
            Special::EarliestPendingUpload => Ok(Self::EarliestPendingUpload),
        }
    }
}

impl From<FoundOffset> for wire::FoundOffset {
    fn from(FoundOffset { leader_epoch, offset, timestamp }: FoundOffset) -> Self {
        Self { leader_epoch, offset, timestamp }
    }
}

impl From<wire::FoundOffset> for FoundOffset {
    fn from(wire::FoundOffset { leader_epoch, offset, timestamp }: wire::FoundOffset) -> Self {
        Self { leader_epoch, offset, timestamp }
    }
}

impl From<EpochEnd> for wire::EpochEnd {
    fn from(EpochEnd { leader_epoch, end_offset }: EpochEnd) -> Self {
        Self { leader_epoch, end_offset }
    }
}

impl From<wire::EpochEnd> for EpochEnd {
    fn from(wire::EpochEnd { leader_epoch, end_offset }: wire::EpochEnd) -> Self {
        Self { leader_epoch, end_offset }
    }
}

impl From<StorageError> for wire::StorageError {
    fn from(error: StorageError) -> Self {
        use wire::storage_error as w;
        let error = match error {
            StorageError::NotLeader(text) => w::Error::NotLeader(text),
            StorageError::UnknownPartition(partition) => w::Error::UnknownPartition(partition.into()),
            StorageError::FencedEpoch(epoch) => w::Error::FencedEpoch(epoch),
            StorageError::UnknownEpoch(epoch) => w::Error::UnknownEpoch(epoch),
            StorageError::OffsetOutOfRange { log_start_offset, high_watermark } => {
                w::Error::OffsetOutOfRange(w::OffsetOutOfRange { log_start_offset, high_watermark })
            }
            StorageError::OutOfOrderSequence { producer_id, expected, got } => {
                w::Error::OutOfOrderSequence(w::OutOfOrderSequence { producer_id, expected, got })
            }
            StorageError::InvalidProducerEpoch { producer_id, current, got } => {
                let (current, got) = (current.into(), got.into());
                w::Error::InvalidProducerEpoch(w::InvalidProducerEpoch { producer_id, current, got })
            }
            StorageError::NotEnoughReplicas(count) => w::Error::NotEnoughReplicas(count as u64),
            StorageError::TimedOut(text) => w::Error::TimedOut(text),
            StorageError::Full(text) => w::Error::Full(text),
            StorageError::Unavailable(text) => w::Error::Unavailable(text),
            StorageError::Corrupt(text) => w::Error::Corrupt(text),
        };
        Self { error: Some(error) }
    }
}

impl TryFrom<wire::StorageError> for StorageError {
    type Error = Malformed;

    fn try_from(wire::StorageError { error }: wire::StorageError) -> Result<Self, Malformed> {
        use wire::storage_error as w;
        Ok(match error.ok_or(Malformed::Missing("error"))? {
            w::Error::NotLeader(text) => Self::NotLeader(text),
            w::Error::UnknownPartition(partition) => Self::UnknownPartition(partition.into()),
            w::Error::FencedEpoch(epoch) => Self::FencedEpoch(epoch),
            w::Error::UnknownEpoch(epoch) => Self::UnknownEpoch(epoch),
            w::Error::OffsetOutOfRange(w::OffsetOutOfRange { log_start_offset, high_watermark }) => {
                Self::OffsetOutOfRange { log_start_offset, high_watermark }
            }
            w::Error::OutOfOrderSequence(w::OutOfOrderSequence { producer_id, expected, got }) => {
                Self::OutOfOrderSequence { producer_id, expected, got }
            }
            w::Error::InvalidProducerEpoch(w::InvalidProducerEpoch { producer_id, current, got }) => {
                let epoch = |epoch| i16::try_from(epoch).map_err(|_| Malformed::OutOfRange("producer epoch"));
                Self::InvalidProducerEpoch { producer_id, current: epoch(current)?, got: epoch(got)? }
            }
            w::Error::NotEnoughReplicas(count) => Self::NotEnoughReplicas(size(count, "replicas")?),
            w::Error::TimedOut(text) => Self::TimedOut(text),
            w::Error::Full(text) => Self::Full(text),
            w::Error::Unavailable(text) => Self::Unavailable(text),
            w::Error::Corrupt(text) => Self::Corrupt(text),
        })
    }
}
