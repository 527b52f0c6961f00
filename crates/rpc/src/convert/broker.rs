//! `broker.proto`.

use tidemark_model::broker::{
    BatchFault, FetchPartition, FetchRequest, Fetched, Isolation, PartitionEpochQuery, PartitionOffsetQuery,
    PartitionRecordDeletion, ProducePartition, ProduceRequest,
};
use tidemark_model::storage::{Appended, EpochEnd, FoundOffset};
use tidemark_model::{BrokerError, NodeId};

use super::common::acks;
use super::{Malformed, all, each, from_ms, outcome, required, size, to_ms};
use crate::proto as wire;

outcome!(ProduceResult, produce_result, Appended: Appended, BrokerError);
outcome!(FetchResult, fetch_result, Fetched: Fetched, BrokerError);
outcome!(BrokerOffsetResult, broker_offset_result, Found: FoundOffset, BrokerError);
outcome!(BrokerDeletionResult, broker_deletion_result, LogStartOffset: i64, BrokerError);
outcome!(BrokerEpochResult, broker_epoch_result, End: EpochEnd, BrokerError);

impl From<ProduceRequest> for wire::ProduceRequest {
    fn from(request: ProduceRequest) -> Self {
        let ProduceRequest { gateway, revision, acks, timeout, partitions } = request;
        Self {
            gateway: gateway.0,
            revision,
            acks: wire::Acks::from(acks).into(),
            timeout_ms: to_ms(timeout),
            partitions: all(partitions),
            traceparent: String::new(),
        }
    }
}

impl TryFrom<wire::ProduceRequest> for ProduceRequest {
    type Error = Malformed;

    fn try_from(request: wire::ProduceRequest) -> Result<Self, Malformed> {
        let wire::ProduceRequest { gateway, revision, acks: number, timeout_ms, partitions, traceparent: _ } = request;
        Ok(Self {
            gateway: NodeId(gateway),
            revision,
            acks: acks(number)?,
            timeout: from_ms(timeout_ms, "timeout")?,
            partitions: each(partitions)?,
        })
    }
}

impl From<ProducePartition> for wire::ProducePartition {
    fn from(ProducePartition { partition, records }: ProducePartition) -> Self {
        Self { partition: Some(partition.into()), records }
    }
}

impl TryFrom<wire::ProducePartition> for ProducePartition {
    type Error = Malformed;

    fn try_from(wire::ProducePartition { partition, records }: wire::ProducePartition) -> Result<Self, Malformed> {
        Ok(Self { partition: required(partition, "partition")?, records })
    }
}

impl From<FetchRequest> for wire::FetchRequest {
    fn from(request: FetchRequest) -> Self {
        let FetchRequest { revision, max_wait, min_bytes, max_bytes, isolation, partitions } = request;
        let isolation = match isolation {
            Isolation::ReadUncommitted => wire::Isolation::ReadUncommitted,
            Isolation::ReadCommitted => wire::Isolation::ReadCommitted,
        };
        Self {
            revision,
            max_wait_ms: to_ms(max_wait),
            min_bytes: min_bytes as u64,
            max_bytes: max_bytes as u64,
            isolation: isolation.into(),
            partitions: all(partitions),
        }
    }
}

impl TryFrom<wire::FetchRequest> for FetchRequest {
    type Error = Malformed;

    fn try_from(request: wire::FetchRequest) -> Result<Self, Malformed> {
        let wire::FetchRequest { revision, max_wait_ms, min_bytes, max_bytes, isolation, partitions } = request;
        let isolation = wire::Isolation::try_from(isolation).map_err(|_| Malformed::OutOfRange("isolation"))?;
        Ok(Self {
            revision,
            max_wait: from_ms(max_wait_ms, "max_wait")?,
            min_bytes: size(min_bytes, "min_bytes")?,
            max_bytes: size(max_bytes, "max_bytes")?,
            isolation: match isolation {
                wire::Isolation::Unspecified => return Err(Malformed::Missing("isolation")),
                wire::Isolation::ReadUncommitted => Isolation::ReadUncommitted,
                wire::Isolation::ReadCommitted => Isolation::ReadCommitted,
            },
            partitions: each(partitions)?,
        })
    }
}

impl From<FetchPartition> for wire::FetchPartition {
    fn from(fetch: FetchPartition) -> Self {
        let FetchPartition { partition, offset, max_bytes, current_leader_epoch, last_fetched_epoch } = fetch;
        Self {
            partition: Some(partition.into()),
            offset,
            max_bytes: max_bytes as u64,
            current_leader_epoch,
            last_fetched_epoch,
        }
    }
}

impl TryFrom<wire::FetchPartition> for FetchPartition {
    type Error = Malformed;

    fn try_from(fetch: wire::FetchPartition) -> Result<Self, Malformed> {
        let wire::FetchPartition { partition, offset, max_bytes, current_leader_epoch, last_fetched_epoch } = fetch;
        Ok(Self {
            partition: required(partition, "partition")?,
            offset,
            max_bytes: size(max_bytes, "max_bytes")?,
            current_leader_epoch,
            last_fetched_epoch,
        })
    }
}

impl From<Fetched> for wire::Fetched {
    fn from(fetched: Fetched) -> Self {
        let Fetched { leader_epoch, log_start_offset, high_watermark, last_stable_offset, aborted, diverging, batches } =
            fetched;
        Self {
            leader_epoch,
            log_start_offset,
            high_watermark,
            last_stable_offset,
            aborted: all(aborted),
            diverging: diverging.map(Into::into),
            batches: all(batches),
        }
    }
}

impl TryFrom<wire::Fetched> for Fetched {
    type Error = Malformed;

    fn try_from(fetched: wire::Fetched) -> Result<Self, Malformed> {
        let wire::Fetched {
            leader_epoch,
            log_start_offset,
            high_watermark,
            last_stable_offset,
            aborted,
            diverging,
            batches,
        } = fetched;
        Ok(Self {
            leader_epoch,
            log_start_offset,
            high_watermark,
            last_stable_offset,
            aborted: each(aborted)?,
            diverging: diverging.map(Into::into),
            batches: each(batches)?,
        })
    }
}

impl From<PartitionOffsetQuery> for wire::PartitionOffsetQuery {
    fn from(query: PartitionOffsetQuery) -> Self {
        let PartitionOffsetQuery { partition, revision, current_leader_epoch, spec } = query;
        Self { partition: Some(partition.into()), revision, current_leader_epoch, spec: Some(spec.into()) }
    }
}

impl TryFrom<wire::PartitionOffsetQuery> for PartitionOffsetQuery {
    type Error = Malformed;

    fn try_from(query: wire::PartitionOffsetQuery) -> Result<Self, Malformed> {
        let wire::PartitionOffsetQuery { partition, revision, current_leader_epoch, spec } = query;
        let (partition, spec) = (required(partition, "partition")?, required(spec, "spec")?);
        Ok(Self { partition, revision, current_leader_epoch, spec })
    }
}

impl From<PartitionEpochQuery> for wire::PartitionEpochQuery {
    fn from(query: PartitionEpochQuery) -> Self {
        let PartitionEpochQuery { partition, revision, current_leader_epoch, leader_epoch } = query;
        Self { partition: Some(partition.into()), revision, current_leader_epoch, leader_epoch }
    }
}

impl TryFrom<wire::PartitionEpochQuery> for PartitionEpochQuery {
    type Error = Malformed;

    fn try_from(query: wire::PartitionEpochQuery) -> Result<Self, Malformed> {
        let wire::PartitionEpochQuery { partition, revision, current_leader_epoch, leader_epoch } = query;
        Ok(Self { partition: required(partition, "partition")?, revision, current_leader_epoch, leader_epoch })
    }
}

impl From<PartitionRecordDeletion> for wire::PartitionRecordDeletion {
    fn from(PartitionRecordDeletion { partition, revision, before, timeout }: PartitionRecordDeletion) -> Self {
        Self { partition: Some(partition.into()), revision, before, timeout_ms: to_ms(timeout) }
    }
}

impl TryFrom<wire::PartitionRecordDeletion> for PartitionRecordDeletion {
    type Error = Malformed;

    fn try_from(deletion: wire::PartitionRecordDeletion) -> Result<Self, Malformed> {
        let wire::PartitionRecordDeletion { partition, revision, before, timeout_ms } = deletion;
        let (partition, timeout) = (required(partition, "partition")?, from_ms(timeout_ms, "timeout")?);
        Ok(Self { partition, revision, before, timeout })
    }
}

impl From<BatchFault> for wire::broker_error::Fault {
    fn from(fault: BatchFault) -> Self {
        match fault {
            BatchFault::Corrupt => Self::Corrupt,
            BatchFault::InvalidRecord => Self::InvalidRecord,
            BatchFault::TooLarge => Self::TooLarge,
            BatchFault::InvalidTimestamp => Self::InvalidTimestamp,
            BatchFault::UnsupportedCompression => Self::UnsupportedCompression,
        }
    }
}

impl TryFrom<wire::broker_error::Fault> for BatchFault {
    type Error = Malformed;

    fn try_from(fault: wire::broker_error::Fault) -> Result<Self, Malformed> {
        use wire::broker_error::Fault;
        match fault {
            Fault::Unspecified => Err(Malformed::Missing("fault")),
            Fault::Corrupt => Ok(Self::Corrupt),
            Fault::InvalidRecord => Ok(Self::InvalidRecord),
            Fault::TooLarge => Ok(Self::TooLarge),
            Fault::InvalidTimestamp => Ok(Self::InvalidTimestamp),
            Fault::UnsupportedCompression => Ok(Self::UnsupportedCompression),
        }
    }
}

impl From<BrokerError> for wire::BrokerError {
    fn from(error: BrokerError) -> Self {
        use wire::broker_error as w;
        let error = match error {
            BrokerError::Rejected { fault, message } => {
                w::Error::Rejected(w::Rejected { fault: w::Fault::from(fault).into(), message })
            }
            BrokerError::Storage(error) => w::Error::Storage(error.into()),
            BrokerError::ObjectStore(text) => w::Error::ObjectStore(text),
            BrokerError::Unavailable(text) => w::Error::Unavailable(text),
        };
        Self { error: Some(error) }
    }
}

impl TryFrom<wire::BrokerError> for BrokerError {
    type Error = Malformed;

    fn try_from(wire::BrokerError { error }: wire::BrokerError) -> Result<Self, Malformed> {
        use wire::broker_error as w;
        Ok(match error.ok_or(Malformed::Missing("error"))? {
            w::Error::Rejected(w::Rejected { fault, message }) => {
                let fault = w::Fault::try_from(fault).map_err(|_| Malformed::OutOfRange("fault"))?.try_into()?;
                Self::Rejected { fault, message }
            }
            w::Error::Storage(error) => Self::Storage(error.try_into()?),
            w::Error::ObjectStore(text) => Self::ObjectStore(text),
            w::Error::Unavailable(text) => Self::Unavailable(text),
        })
    }
}
