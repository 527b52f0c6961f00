//! `storage.proto`.

use tidemark_model::route::Route;
use tidemark_model::storage::{
    Append, AppendRequest, Appended, Bounds, EpochEnd, EpochQuery, FoundOffset, OffsetQuery, Read, ReadRequest,
    RecordDeletion, Records, TailCommand, TailEvent,
};
use tidemark_model::{JournalId, NodeId, StorageError, TieredRun};

use super::common::acks;
use super::{Malformed, all, each, from_ms, outcome, required, size, to_ms};
use crate::proto as wire;

outcome!(AppendResult, append_result, Appended: Appended, StorageError);
outcome!(ReadResponse, read_response, Read: Read, StorageError);
outcome!(StorageOffsetResult, storage_offset_result, Found: FoundOffset, StorageError);
outcome!(StorageDeletionResult, storage_deletion_result, LogStartOffset: i64, StorageError);
outcome!(StorageEpochResult, storage_epoch_result, End: EpochEnd, StorageError);

impl From<AppendRequest> for wire::AppendRequest {
    fn from(request: AppendRequest) -> Self {
        let AppendRequest { journal, route, acks, timeout, appends } = request;
        Self {
            journal: journal.0,
            route: Some(route.into()),
            acks: wire::Acks::from(acks).into(),
            timeout_ms: to_ms(timeout),
            appends: all(appends),
            traceparent: String::new(),
        }
    }
}

impl TryFrom<wire::AppendRequest> for AppendRequest {
    type Error = Malformed;

    fn try_from(request: wire::AppendRequest) -> Result<Self, Malformed> {
        let wire::AppendRequest { journal, route, acks: number, timeout_ms, appends, traceparent: _ } = request;
        Ok(Self {
            journal: JournalId(journal),
            route: required(route, "route")?,
            acks: acks(number)?,
            timeout: from_ms(timeout_ms, "timeout")?,
            appends: each(appends)?,
        })
    }
}

impl From<Route> for wire::Route {
    fn from(Route { generation, gateway, broker }: Route) -> Self {
        Self { generation, gateway: gateway.0, broker: broker.0 }
    }
}

impl From<wire::Route> for Route {
    fn from(wire::Route { generation, gateway, broker }: wire::Route) -> Self {
        Self { generation, gateway: NodeId(gateway), broker: NodeId(broker) }
    }
}

impl From<Append> for wire::Append {
    fn from(Append { partition, batch }: Append) -> Self {
        Self { partition: Some(partition.into()), batch: Some(batch.into()) }
    }
}

impl TryFrom<wire::Append> for Append {
    type Error = Malformed;

    fn try_from(wire::Append { partition, batch }: wire::Append) -> Result<Self, Malformed> {
        Ok(Self { partition: required(partition, "partition")?, batch: required(batch, "batch")? })
    }
}

impl From<Bounds> for wire::Bounds {
    fn from(Bounds { leader_epoch, log_start_offset, high_watermark, last_stable_offset }: Bounds) -> Self {
        Self { leader_epoch, log_start_offset, high_watermark, last_stable_offset }
    }
}

impl From<wire::Bounds> for Bounds {
    fn from(bounds: wire::Bounds) -> Self {
        let wire::Bounds { leader_epoch, log_start_offset, high_watermark, last_stable_offset } = bounds;
        Self { leader_epoch, log_start_offset, high_watermark, last_stable_offset }
    }
}

impl From<ReadRequest> for wire::ReadRequest {
    fn from(request: ReadRequest) -> Self {
        let ReadRequest { journal, partition, revision, offset, max_bytes, current_leader_epoch } = request;
        Self {
            journal: journal.0,
            partition: Some(partition.into()),
            revision,
            offset,
            max_bytes: max_bytes as u64,
            current_leader_epoch,
        }
    }
}

impl TryFrom<wire::ReadRequest> for ReadRequest {
    type Error = Malformed;

    fn try_from(request: wire::ReadRequest) -> Result<Self, Malformed> {
        let wire::ReadRequest { journal, partition, revision, offset, max_bytes, current_leader_epoch } = request;
        Ok(Self {
            journal: JournalId(journal),
            partition: required(partition, "partition")?,
            revision,
            offset,
            max_bytes: size(max_bytes, "max_bytes")?,
            current_leader_epoch,
        })
    }
}

impl From<Read> for wire::Read {
    fn from(Read { bounds, records, aborted }: Read) -> Self {
        use wire::read::Records as W;
        let records = match records {
            Records::Batches(batches) => W::Batches(wire::Batches { batches: all(batches) }),
            Records::Tiered(runs) => W::Tiered(wire::TieredRuns { runs: all(runs) }),
        };
        Self { bounds: Some(bounds.into()), records: Some(records), aborted: all(aborted) }
    }
}

impl TryFrom<wire::Read> for Read {
    type Error = Malformed;

    fn try_from(wire::Read { bounds, records, aborted }: wire::Read) -> Result<Self, Malformed> {
        use wire::read::Records as W;
        let records = match records.ok_or(Malformed::Missing("records"))? {
            W::Batches(wire::Batches { batches }) => Records::Batches(each(batches)?),
            W::Tiered(wire::TieredRuns { runs }) => Records::Tiered(each(runs)?),
        };
        Ok(Self { bounds: required(bounds, "bounds")?, records, aborted: each(aborted)? })
    }
}

impl From<TieredRun> for wire::TieredRun {
    fn from(run: TieredRun) -> Self {
        let TieredRun {
            object,
            partition,
            first_offset,
            last_offset,
            position,
            length,
            object_size,
            max_timestamp,
            leader_epoch,
        } = run;
        Self {
            object,
            partition: Some(partition.into()),
            first_offset,
            last_offset,
            position,
            length,
            object_size,
            max_timestamp,
            leader_epoch,
        }
    }
}

impl TryFrom<wire::TieredRun> for TieredRun {
    type Error = Malformed;

    fn try_from(run: wire::TieredRun) -> Result<Self, Malformed> {
        let wire::TieredRun {
            object,
            partition,
            first_offset,
            last_offset,
            position,
            length,
            object_size,
            max_timestamp,
            leader_epoch,
        } = run;
        let partition = required(partition, "partition")?;
        // A reader adds the two.
        if position.checked_add(length).is_none_or(|end| end > object_size) {
            return Err(Malformed::OutOfRange("run"));
        }
        Ok(Self {
            object,
            partition,
            first_offset,
            last_offset,
            position,
            length,
            object_size,
            max_timestamp,
            leader_epoch,
        })
    }
}

impl From<OffsetQuery> for wire::OffsetQuery {
    fn from(OffsetQuery { journal, partition, revision, current_leader_epoch, spec }: OffsetQuery) -> Self {
        Self {
            journal: journal.0,
            partition: Some(partition.into()),
            revision,
            current_leader_epoch,
            spec: Some(spec.into()),
        }
    }
}

impl TryFrom<wire::OffsetQuery> for OffsetQuery {
    type Error = Malformed;

    fn try_from(query: wire::OffsetQuery) -> Result<Self, Malformed> {
        let wire::OffsetQuery { journal, partition, revision, current_leader_epoch, spec } = query;
        Ok(Self {
            journal: JournalId(journal),
            partition: required(partition, "partition")?,
            revision,
            current_leader_epoch,
            spec: required(spec, "spec")?,
        })
    }
}

impl From<EpochQuery> for wire::EpochQuery {
    fn from(EpochQuery { journal, partition, revision, current_leader_epoch, leader_epoch }: EpochQuery) -> Self {
        Self { journal: journal.0, partition: Some(partition.into()), revision, current_leader_epoch, leader_epoch }
    }
}

impl TryFrom<wire::EpochQuery> for EpochQuery {
    type Error = Malformed;

    fn try_from(query: wire::EpochQuery) -> Result<Self, Malformed> {
        let wire::EpochQuery { journal, partition, revision, current_leader_epoch, leader_epoch } = query;
        Ok(Self {
            journal: JournalId(journal),
            partition: required(partition, "partition")?,
            revision,
            current_leader_epoch,
            leader_epoch,
        })
    }
}

impl From<RecordDeletion> for wire::RecordDeletion {
    fn from(RecordDeletion { journal, partition, revision, before, timeout }: RecordDeletion) -> Self {
        Self { journal: journal.0, partition: Some(partition.into()), revision, before, timeout_ms: to_ms(timeout) }
    }
}

impl TryFrom<wire::RecordDeletion> for RecordDeletion {
    type Error = Malformed;

    fn try_from(deletion: wire::RecordDeletion) -> Result<Self, Malformed> {
        let wire::RecordDeletion { journal, partition, revision, before, timeout_ms } = deletion;
        Ok(Self {
            journal: JournalId(journal),
            partition: required(partition, "partition")?,
            revision,
            before,
            timeout: from_ms(timeout_ms, "timeout")?,
        })
    }
}

impl From<TailCommand> for wire::TailCommand {
    fn from(command: TailCommand) -> Self {
        use wire::tail_command as w;
        let command = match command {
            TailCommand::Subscribe { journal, partition, revision, offset, credit } => {
                w::Command::Subscribe(w::Subscribe {
                    journal: journal.0,
                    partition: Some(partition.into()),
                    revision,
                    offset,
                    credit,
                })
            }
            TailCommand::Credit { partition, bytes } => {
                w::Command::Credit(w::Credit { partition: Some(partition.into()), bytes })
            }
            TailCommand::Unsubscribe { partition } => {
                w::Command::Unsubscribe(w::Unsubscribe { partition: Some(partition.into()) })
            }
            TailCommand::Seen { partition, log_start_offset } => {
                w::Command::Seen(w::Seen { partition: Some(partition.into()), log_start_offset })
            }
        };
        Self { command: Some(command) }
    }
}

impl TryFrom<wire::TailCommand> for TailCommand {
    type Error = Malformed;

    fn try_from(wire::TailCommand { command }: wire::TailCommand) -> Result<Self, Malformed> {
        use wire::tail_command as w;
        Ok(match command.ok_or(Malformed::Missing("command"))? {
            w::Command::Subscribe(w::Subscribe { journal, partition, revision, offset, credit }) => Self::Subscribe {
                journal: JournalId(journal),
                partition: required(partition, "partition")?,
                revision,
                offset,
                credit,
            },
            w::Command::Credit(w::Credit { partition, bytes }) => {
                Self::Credit { partition: required(partition, "partition")?, bytes }
            }
            w::Command::Unsubscribe(w::Unsubscribe { partition }) => {
                Self::Unsubscribe { partition: required(partition, "partition")? }
            }
            w::Command::Seen(w::Seen { partition, log_start_offset }) => {
                Self::Seen { partition: required(partition, "partition")?, log_start_offset }
            }
        })
    }
}

impl From<Result<TailEvent, StorageError>> for wire::TailEvent {
    fn from(event: Result<TailEvent, StorageError>) -> Self {
        use wire::tail_event as w;
        let event = match event {
            Ok(TailEvent::Batches { partition, bounds, batches, aborted }) => w::Event::Batches(w::Batches {
                partition: Some(partition.into()),
                bounds: Some(bounds.into()),
                batches: all(batches),
                aborted: all(aborted),
            }),
            Ok(TailEvent::Ended { partition, reason }) => {
                w::Event::Ended(w::Ended { partition: Some(partition.into()), reason: Some(reason.into()) })
            }
            Err(error) => w::Event::Failed(error.into()),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<wire::TailEvent> for Result<TailEvent, StorageError> {
    type Error = Malformed;

    fn try_from(wire::TailEvent { event }: wire::TailEvent) -> Result<Self, Malformed> {
        use wire::tail_event as w;
        Ok(match event.ok_or(Malformed::Missing("event"))? {
            w::Event::Batches(w::Batches { partition, bounds, batches, aborted }) => Ok(TailEvent::Batches {
                partition: required(partition, "partition")?,
                bounds: required(bounds, "bounds")?,
                batches: each(batches)?,
                aborted: each(aborted)?,
            }),
            w::Event::Ended(w::Ended { partition, reason }) => Ok(TailEvent::Ended {
                partition: required(partition, "partition")?,
                reason: required(reason, "reason")?,
            }),
            w::Event::Failed(error) => Err(error.try_into()?),
        })
    }
}
