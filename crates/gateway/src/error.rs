//! What Kafka clients are told when another service failed: the one table from our errors to Kafka's codes.
//!
//! Clients decide by the code alone whether to retry, to refresh their metadata or to give up, so each line says what
//! the error's documentation says to do next.

use tidemark_model::{BrokerError, CoordinatorError, StorageError};
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
        StorageError::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
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
            | StorageError::DuplicateSequence { .. }
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
            (storage(StorageError::DuplicateSequence { producer_id, got: 3 }), 46),
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
}
