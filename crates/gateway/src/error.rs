//! What Kafka clients are told when another service failed: the one table from our errors to Kafka's codes.
//!
//! Clients decide by the code alone whether to retry, to refresh their metadata or to give up, so each line says what
//! the error's documentation says to do next.

use tidemark_model::{BrokerError, CoordinatorError, GroupError, StorageError};
use tidemark_wire::error::ErrorCode;

use crate::fetch_session::SessionError;

/// The code of a produce.
pub(crate) fn of_produce(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::Rejected { fault, .. } => (*fault).into(),
        BrokerError::Storage(error) => of_storage(error),
        BrokerError::ObjectStore(_) => ErrorCode::KafkaStorageError,
        // It may have been appended all the same. This is the one retriable code by which clients do not take a batch
        // to be not persisted.
        BrokerError::Unavailable(_) => ErrorCode::RequestTimedOut,
    }
}

/// The code of a fetch or of a question about offsets. Java's consumer fails for good on a code that it does not expect
/// in a fetch, so a read that timed out is a disk that failed, which every client retries.
pub(crate) fn of_read(error: &BrokerError) -> ErrorCode {
    match of_produce(error) {
        ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicas => ErrorCode::KafkaStorageError,
        code => code,
    }
}

fn of_storage(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
        StorageError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        StorageError::FencedEpoch(_) => ErrorCode::FencedLeaderEpoch,
        StorageError::UnknownEpoch(_) => ErrorCode::UnknownLeaderEpoch,
        StorageError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StorageError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        StorageError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        StorageError::NotEnoughReplicas(_) => ErrorCode::NotEnoughReplicas,
        StorageError::TimedOut(_) => ErrorCode::RequestTimedOut,
        // Nothing was appended, and clients take this code to mean that.
        StorageError::Full(_) => ErrorCode::KafkaStorageError,
        StorageError::Unavailable(_) => ErrorCode::RequestTimedOut,
        StorageError::Corrupt(_) => ErrorCode::CorruptMessage,
    }
}

/// The code of an administrative request.
pub(crate) fn of_coordinator(error: &CoordinatorError) -> ErrorCode {
    match error {
        CoordinatorError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        CoordinatorError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        CoordinatorError::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        CoordinatorError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        CoordinatorError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CoordinatorError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        CoordinatorError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        // No request of a client is fenced: a gateway that is told so is not one any more.
        CoordinatorError::Fenced(_) => ErrorCode::NotController,
        CoordinatorError::Unavailable(_) => ErrorCode::RequestTimedOut,
    }
}

/// The code of a request to a group.
pub(crate) fn of_group(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        // Kafka's own timeouts of a group's log are this code too, whether the write came about or not.
        GroupError::Unavailable(_) | GroupError::TimedOut(_) => ErrorCode::CoordinatorNotAvailable,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::GroupIdNotFound(_) => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::UnknownMemberId(_) => ErrorCode::UnknownMemberId,
        GroupError::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::FencedMemberEpoch(_) => ErrorCode::FencedMemberEpoch,
        GroupError::StaleMemberEpoch(_) => ErrorCode::StaleMemberEpoch,
        GroupError::UnreleasedInstanceId(_) => ErrorCode::UnreleasedInstanceId,
        GroupError::UnsupportedAssignor(_) => ErrorCode::UnsupportedAssignor,
        GroupError::InvalidRegularExpression(_) => ErrorCode::InvalidRegularExpression,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::UnstableOffset => ErrorCode::UnstableOffsetCommit,
        GroupError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        GroupError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        GroupError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        // What Kafka makes of a record that its log does not take.
        GroupError::TooLarge(_) => ErrorCode::UnknownServerError,
        GroupError::UnsupportedVersion(_) => ErrorCode::UnsupportedVersion,
    }
}

/// The code of a fetch of offsets: consumers before 3.9 do not know COORDINATOR_NOT_AVAILABLE there, so Kafka says
/// NOT_COORDINATOR.
pub(crate) fn of_offset_fetch(error: &GroupError) -> ErrorCode {
    match of_group(error) {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        code => code,
    }
}

/// The code of a request about a group's configs, which clients do not send to the group's coordinator.
pub(crate) fn of_group_configs(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NotCoordinator
        | GroupError::LoadInProgress
        | GroupError::Unavailable(_)
        | GroupError::TimedOut(_) => ErrorCode::RequestTimedOut,
        error => of_group(error),
    }
}

pub(crate) fn of_session(error: SessionError) -> ErrorCode {
    match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicId => ErrorCode::FetchSessionTopicIdError,
    }
}

/// Whether asking again at once is likely to fail in the same way, so that a client that does not wait by itself should
/// be made to.
pub(crate) fn is_outage(error: &BrokerError) -> bool {
    match error {
        BrokerError::Rejected { .. } => false,
        BrokerError::ObjectStore(_) | BrokerError::Unavailable(_) => true,
        BrokerError::Storage(error) => match error {
            StorageError::NotLeader(_)
            | StorageError::NotEnoughReplicas(_)
            | StorageError::TimedOut(_)
            | StorageError::Full(_)
            | StorageError::Unavailable(_)
            | StorageError::Corrupt(_) => true,
            StorageError::UnknownPartition(_)
            | StorageError::FencedEpoch(_)
            | StorageError::UnknownEpoch(_)
            | StorageError::OffsetOutOfRange { .. }
            | StorageError::OutOfOrderSequence { .. }
            | StorageError::InvalidProducerEpoch { .. } => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use tidemark_model::broker::BatchFault;
    use tidemark_model::{TopicId, TopicPartition};

    use super::*;

    fn text() -> String {
        "why".into()
    }

    #[test]
    fn every_failure_of_a_produce_has_the_code_that_kafka_gives_it() {
        let rejected = |fault| BrokerError::Rejected { fault, message: text() };
        let partition = TopicPartition::new(TopicId(uuid::Uuid::nil()), 0);
        let producer_id = 1;
        let storage = |error: StorageError| BrokerError::Storage(error);
        let table = [
            (rejected(BatchFault::Corrupt), 2),
            (rejected(BatchFault::InvalidRecord), 87),
            (rejected(BatchFault::TooLarge), 10),
            (rejected(BatchFault::InvalidTimestamp), 32),
            (rejected(BatchFault::UnsupportedCompression), 76),
            (BrokerError::ObjectStore(text()), 56),
            (BrokerError::Unavailable(text()), 7),
            (storage(StorageError::NotLeader(text())), 6),
            (storage(StorageError::UnknownPartition(partition)), 3),
            (storage(StorageError::FencedEpoch(1)), 74),
            (storage(StorageError::UnknownEpoch(1)), 75),
            (storage(StorageError::OffsetOutOfRange { log_start_offset: 0, high_watermark: 1 }), 1),
            (storage(StorageError::OutOfOrderSequence { producer_id, expected: 1, got: 3 }), 45),
            (storage(StorageError::InvalidProducerEpoch { producer_id, current: 2, got: 1 }), 47),
            (storage(StorageError::NotEnoughReplicas(1)), 19),
            (storage(StorageError::TimedOut(text())), 7),
            (storage(StorageError::Full(text())), 56),
            (storage(StorageError::Unavailable(text())), 7),
            (storage(StorageError::Corrupt(text())), 2),
        ];
        for (error, code) in table {
            assert_eq!(of_produce(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn a_fetch_is_answered_only_with_codes_that_consumers_expect() {
        // What org.apache.kafka.clients.consumer.internals.FetchCollector knows, besides authorization.
        let expected = [1, 2, 3, 6, 9, 56, 74, 75, 78, 100, 103];
        let failures = [
            BrokerError::ObjectStore(text()),
            BrokerError::Unavailable(text()),
            StorageError::NotLeader(text()).into(),
            StorageError::FencedEpoch(1).into(),
            StorageError::UnknownEpoch(1).into(),
            StorageError::OffsetOutOfRange { log_start_offset: 0, high_watermark: 1 }.into(),
            StorageError::NotEnoughReplicas(1).into(),
            StorageError::TimedOut(text()).into(),
            StorageError::Full(text()).into(),
            StorageError::Unavailable(text()).into(),
            StorageError::Corrupt(text()).into(),
        ];
        for error in failures {
            assert!(expected.contains(&of_read(&error).code()), "{error}: {}", of_read(&error));
        }
    }

    #[test]
    fn every_failure_of_an_administrative_request_has_its_code() {
        let table = [
            (CoordinatorError::TopicExists(text()), 36),
            (CoordinatorError::UnknownTopic(text()), 3),
            (CoordinatorError::InvalidTopicName(text()), 17),
            (CoordinatorError::InvalidPartitions(text()), 37),
            (CoordinatorError::InvalidReplicationFactor(text()), 38),
            (CoordinatorError::InvalidConfig(text()), 40),
            (CoordinatorError::InvalidRequest(text()), 42),
            (CoordinatorError::Fenced(text()), 41),
            (CoordinatorError::Unavailable(text()), 7),
        ];
        for (error, code) in table {
            assert_eq!(of_coordinator(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn every_failure_of_a_group_has_the_code_of_its_name() {
        let table = [
            (GroupError::NotCoordinator, 16),
            (GroupError::LoadInProgress, 14),
            (GroupError::Unavailable(text()), 15),
            (GroupError::TimedOut(text()), 15),
            (GroupError::InvalidGroupId, 24),
            (GroupError::GroupIdNotFound(text()), 69),
            (GroupError::NonEmptyGroup, 68),
            (GroupError::GroupSubscribedToTopic, 86),
            (GroupError::GroupMaxSizeReached, 81),
            (GroupError::UnknownMemberId(text()), 25),
            (GroupError::MemberIdRequired(text()), 79),
            (GroupError::IllegalGeneration, 22),
            (GroupError::RebalanceInProgress, 27),
            (GroupError::InconsistentGroupProtocol, 23),
            (GroupError::InvalidSessionTimeout, 26),
            (GroupError::FencedInstanceId, 82),
            (GroupError::FencedMemberEpoch(text()), 110),
            (GroupError::StaleMemberEpoch(text()), 113),
            (GroupError::UnreleasedInstanceId(text()), 111),
            (GroupError::UnsupportedAssignor(text()), 112),
            (GroupError::InvalidRegularExpression(text()), 128),
            (GroupError::OffsetMetadataTooLarge, 12),
            (GroupError::UnstableOffset, 88),
            (GroupError::UnknownTopicOrPartition, 3),
            (GroupError::InvalidConfig(text()), 40),
            (GroupError::InvalidRequest(text()), 42),
            (GroupError::TooLarge(text()), -1),
            (GroupError::UnsupportedVersion(text()), 35),
        ];
        for (error, code) in table {
            assert_eq!(of_group(&error).code(), code, "{error}");
            assert_eq!(of_offset_fetch(&error).code(), if code == 15 { 16 } else { code }, "{error}");
            let away = [14, 15, 16].contains(&code);
            assert_eq!(of_group_configs(&error).code(), if away { 7 } else { code }, "{error}");
        }
    }
}
