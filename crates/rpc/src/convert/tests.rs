//! Every message there and back, through bytes; and bytes of any kind, which must not make anything panic.

mod groups;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tidemark_model::broker::*;
use tidemark_model::coordinator::*;
use tidemark_model::route::Route;
use tidemark_model::storage::*;
use tidemark_model::*;
use uuid::Uuid;

use super::*;
use crate::proto as wire;

/// What comes out is what went in, also for types that do not compare.
fn crosses<M, W>(value: M) -> Result<(), TestCaseError>
where
    M: Clone + Debug + TryFrom<W>,
    W: Message + Default + From<M>,
    Malformed: From<M::Error>,
{
    let bytes = W::from(value.clone()).encode_to_vec();
    let message = W::decode(Bytes::from(bytes)).expect("what was encoded decodes");
    let again = M::try_from(message).map_err(Malformed::from).expect("what was converted converts back");
    prop_assert_eq!(format!("{value:?}"), format!("{again:?}"));
    Ok(())
}

/// Bytes that a broken peer may send: an error or a value.
fn bears<M, W>(bytes: &[u8])
where
    M: TryFrom<W>,
    W: Message + Default,
{
    if let Ok(message) = W::decode(bytes) {
        let _ = M::try_from(message);
    }
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (any::<u128>(), any::<i32>()).prop_map(|(id, n)| TopicPartition::new(TopicId(Uuid::from_u128(id)), n))
}

fn batch() -> impl Strategy<Value = Batch> {
    (any::<i64>(), any::<i32>(), vec(any::<u8>(), 45..200)).prop_map(|(base_offset, leader_epoch, mut body)| {
        body[0] = 2;
        Batch::from_body(base_offset, leader_epoch, body.into()).expect("a body of magic 2")
    })
}

fn acks() -> impl Strategy<Value = Acks> {
    prop_oneof![Just(Acks::None), Just(Acks::Leader), Just(Acks::All)]
}

fn wait() -> impl Strategy<Value = Duration> {
    (0..=MAX_WAIT_MS).prop_map(|ms| Duration::from_millis(ms.into()))
}

fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn aborted() -> impl Strategy<Value = AbortedTransaction> {
    any::<(i64, i64, i64)>().prop_map(|(first_offset, last_offset, producer_id)| AbortedTransaction {
        first_offset,
        last_offset,
        producer_id,
    })
}

fn appended() -> impl Strategy<Value = Appended> {
    any::<(i64, i64, i64)>().prop_map(|(base_offset, log_append_time_ms, log_start_offset)| Appended {
        base_offset,
        log_append_time_ms,
        log_start_offset,
    })
}

fn spec() -> impl Strategy<Value = OffsetSpec> {
    prop_oneof![
        any::<i64>().prop_map(OffsetSpec::Timestamp),
        Just(OffsetSpec::Earliest),
        Just(OffsetSpec::Latest),
        Just(OffsetSpec::LastStable),
        Just(OffsetSpec::MaxTimestamp),
        Just(OffsetSpec::EarliestLocal),
        Just(OffsetSpec::LatestTiered),
        Just(OffsetSpec::EarliestPendingUpload),
    ]
}

fn found() -> impl Strategy<Value = FoundOffset> {
    any::<(i32, i64, i64)>().prop_map(|(leader_epoch, offset, timestamp)| FoundOffset {
        leader_epoch,
        offset,
        timestamp,
    })
}

fn epoch_end() -> impl Strategy<Value = EpochEnd> {
    any::<(i32, i64)>().prop_map(|(leader_epoch, end_offset)| EpochEnd { leader_epoch, end_offset })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    any::<(i32, i64, i64, i64)>().prop_map(|(leader_epoch, log_start_offset, high_watermark, last_stable_offset)| {
        Bounds { leader_epoch, log_start_offset, high_watermark, last_stable_offset }
    })
}

fn storage_error() -> impl Strategy<Value = StorageError> {
    prop_oneof![
        text().prop_map(StorageError::NotLeader),
        partition().prop_map(StorageError::UnknownPartition),
        any::<i32>().prop_map(StorageError::FencedEpoch),
        any::<i32>().prop_map(StorageError::UnknownEpoch),
        any::<(i64, i64)>().prop_map(|(log_start_offset, high_watermark)| StorageError::OffsetOutOfRange {
            log_start_offset,
            high_watermark
        }),
        any::<(i64, i32, i32)>().prop_map(|(producer_id, expected, got)| StorageError::OutOfOrderSequence {
            producer_id,
            expected,
            got
        }),
        any::<(i64, i16, i16)>().prop_map(|(producer_id, current, got)| StorageError::InvalidProducerEpoch {
            producer_id,
            current,
            got
        }),
        any::<usize>().prop_map(StorageError::NotEnoughReplicas),
        text().prop_map(StorageError::TimedOut),
        text().prop_map(StorageError::Full),
        text().prop_map(StorageError::Unavailable),
        text().prop_map(StorageError::Corrupt),
    ]
}

fn fault() -> impl Strategy<Value = BatchFault> {
    prop_oneof![
        Just(BatchFault::Corrupt),
        Just(BatchFault::InvalidRecord),
        Just(BatchFault::TooLarge),
        Just(BatchFault::InvalidTimestamp),
        Just(BatchFault::UnsupportedCompression),
    ]
}

fn broker_error() -> impl Strategy<Value = BrokerError> {
    prop_oneof![
        (fault(), text()).prop_map(|(fault, message)| BrokerError::Rejected { fault, message }),
        storage_error().prop_map(BrokerError::Storage),
        text().prop_map(BrokerError::ObjectStore),
        text().prop_map(BrokerError::Unavailable),
    ]
}

fn coordinator_error() -> impl Strategy<Value = CoordinatorError> {
    prop_oneof![
        text().prop_map(CoordinatorError::TopicExists),
        text().prop_map(CoordinatorError::UnknownTopic),
        text().prop_map(CoordinatorError::InvalidTopicName),
        text().prop_map(CoordinatorError::InvalidPartitions),
        text().prop_map(CoordinatorError::InvalidReplicationFactor),
        text().prop_map(CoordinatorError::InvalidConfig),
        text().prop_map(CoordinatorError::InvalidRequest),
        text().prop_map(CoordinatorError::Fenced),
        text().prop_map(CoordinatorError::Unavailable),
    ]
}

fn run() -> impl Strategy<Value = TieredRun> {
    let place = (0..u64::MAX / 4, 0..u64::MAX / 4, 0..u64::MAX / 4);
    (text(), partition(), any::<(i64, i64, i64, i32)>(), place).prop_map(|(object, partition, numbers, place)| {
        TieredRun {
            object,
            partition,
            first_offset: numbers.0,
            last_offset: numbers.1,
            position: place.0,
            length: place.1,
            object_size: place.0 + place.1 + place.2,
            max_timestamp: numbers.2,
            leader_epoch: numbers.3,
        }
    })
}

fn records() -> impl Strategy<Value = Records> {
    prop_oneof![vec(batch(), 0..3).prop_map(Records::Batches), vec(run(), 0..3).prop_map(Records::Tiered)]
}

fn tail_event() -> impl Strategy<Value = TailEvent> {
    prop_oneof![
        (partition(), bounds(), vec(batch(), 0..3), vec(aborted(), 0..3)).prop_map(
            |(partition, bounds, batches, aborted)| TailEvent::Batches { partition, bounds, batches, aborted }
        ),
        (partition(), storage_error()).prop_map(|(partition, reason)| TailEvent::Ended { partition, reason }),
    ]
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Gateway), Just(Role::Broker), Just(Role::Storage), Just(Role::Coordinator)]
}

fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..4)
}

fn replicas() -> impl Strategy<Value = Vec<Replica>> {
    let replica = any::<(i32, u64)>().prop_map(|(node, incarnation)| Replica { node: NodeId(node), incarnation });
    vec(replica, 0..4)
}

fn journal() -> impl Strategy<Value = Journal> {
    (any::<(u32, u32, i32)>(), replicas(), replicas()).prop_map(|((id, epoch, leader), replicas, isr)| Journal {
        id: JournalId(id),
        epoch,
        leader: NodeId(leader),
        replicas,
        isr,
    })
}

fn topic() -> impl Strategy<Value = Topic> {
    let at =
        any::<(u32, i32)>().prop_map(|(journal, epoch_base)| Partition { journal: JournalId(journal), epoch_base });
    (any::<u128>(), text(), any::<i16>(), vec(at, 0..5), configs()).prop_map(
        |(id, name, replication_factor, partitions, configs)| Topic {
            id: TopicId(Uuid::from_u128(id)),
            name,
            replication_factor,
            partitions,
            configs,
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    (any_role(), any::<i32>(), any::<u64>(), text(), option::of(text()))
        .prop_map(|(role, id, incarnation, address, rack)| Node { role, id: NodeId(id), incarnation, address, rack })
}

fn record() -> impl Strategy<Value = Record> {
    let slot = any::<(u32, u32, i32, u64)>().prop_map(|(id, epoch, owner, incarnation)| {
        Record::Slot(Slot { id: SlotId(id), epoch, owner: NodeId(owner), incarnation })
    });
    prop_oneof![
        node().prop_map(Record::Node),
        journal().prop_map(Record::Journal),
        topic().prop_map(Record::Topic),
        slot
    ]
}

fn key() -> impl Strategy<Value = RecordKey> {
    prop_oneof![
        (any_role(), any::<i32>()).prop_map(|(role, id)| RecordKey::Node(role, NodeId(id))),
        any::<u32>().prop_map(|id| RecordKey::Journal(JournalId(id))),
        any::<u128>().prop_map(|id| RecordKey::Topic(TopicId(Uuid::from_u128(id)))),
        any::<u32>().prop_map(|id| RecordKey::Slot(SlotId(id))),
    ]
}

fn update() -> impl Strategy<Value = ClusterUpdate> {
    prop_oneof![
        (text(), any::<Option<(u32, u64)>>(), any::<i32>(), configs()).prop_map(
            |(cluster_id, claim, node, settings)| ClusterUpdate::Joined {
                cluster_id,
                claim: claim.map(|(generation, id)| Claim { generation, id }),
                node: NodeId(node),
                settings
            }
        ),
        (any::<u64>(), vec(record(), 0..4), any::<bool>())
            .prop_map(|(revision, records, last)| ClusterUpdate::Snapshot { revision, records, last }),
        (any::<u64>(), vec(record(), 0..4), vec(key(), 0..4))
            .prop_map(|(revision, upserts, removals)| ClusterUpdate::Delta { revision, upserts, removals }),
    ]
}

fn change() -> impl Strategy<Value = ConfigChange> {
    prop_oneof![
        (text(), text()).prop_map(|(name, value)| ConfigChange::Set { name, value }),
        text().prop_map(|name| ConfigChange::Delete { name }),
        (text(), text()).prop_map(|(name, value)| ConfigChange::Append { name, value }),
        (text(), text()).prop_map(|(name, value)| ConfigChange::Subtract { name, value }),
    ]
}

fn topic_ref() -> impl Strategy<Value = TopicRef> {
    prop_oneof![
        any::<u128>().prop_map(|id| TopicRef::Id(TopicId(Uuid::from_u128(id)))),
        text().prop_map(TopicRef::Name)
    ]
}

fn either<T: Debug + Clone, E: Debug + Clone>(
    value: impl Strategy<Value = T>,
    error: impl Strategy<Value = E>,
) -> impl Strategy<Value = Result<T, E>> {
    prop_oneof![value.prop_map(Ok), error.prop_map(Err)]
}

prop_compose! {
    fn produce_request()(
        numbers in any::<(i32, u64)>(), acks in acks(), timeout in wait(),
        partitions in vec((partition(), vec(any::<u8>(), 0..100)), 0..4),
    ) -> ProduceRequest {
        let partition = |(partition, records)| ProducePartition { partition, records: Bytes::from(records) };
        let partitions = partitions.into_iter().map(partition).collect();
        ProduceRequest { gateway: NodeId(numbers.0), revision: numbers.1, acks, timeout, partitions }
    }
}

prop_compose! {
    fn fetch_partition()(
        partition in partition(), offset in any::<i64>(), max_bytes in any::<usize>(),
        epochs in any::<(Option<i32>, Option<i32>)>(),
    ) -> FetchPartition {
        FetchPartition {
            partition, offset, max_bytes, current_leader_epoch: epochs.0, last_fetched_epoch: epochs.1,
        }
    }
}

prop_compose! {
    fn fetch_request()(
        revision in any::<u64>(), max_wait in wait(), bytes in any::<(usize, usize)>(), committed in any::<bool>(),
        partitions in vec(fetch_partition(), 0..4),
    ) -> FetchRequest {
        let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        FetchRequest { revision, max_wait, min_bytes: bytes.0, max_bytes: bytes.1, isolation, partitions }
    }
}

prop_compose! {
    fn fetched()(
        numbers in any::<(i32, i64, i64, i64)>(), aborted in vec(aborted(), 0..3),
        diverging in option::of(epoch_end()), batches in vec(batch(), 0..3),
    ) -> Fetched {
        let (leader_epoch, log_start_offset, high_watermark, last_stable_offset) = numbers;
        Fetched { leader_epoch, log_start_offset, high_watermark, last_stable_offset, aborted, diverging, batches }
    }
}

prop_compose! {
    fn append_request()(
        journal in any::<u32>(), route in any::<(u64, i32, i32)>(), acks in acks(), timeout in wait(),
        appends in vec((partition(), batch()), 0..4),
    ) -> AppendRequest {
        let route = Route { generation: route.0, gateway: NodeId(route.1), broker: NodeId(route.2) };
        let appends = appends.into_iter().map(|(partition, batch)| Append { partition, batch }).collect();
        AppendRequest { journal: JournalId(journal), route, acks, timeout, appends }
    }
}

proptest! {
    #[test]
    fn broker_messages_cross(
        produce in produce_request(), fetch in fetch_request(),
        fetched in either(fetched(), broker_error()), appended in either(appended(), broker_error()),
        found in either(found(), broker_error()), end in either(epoch_end(), broker_error()),
        at in partition(), revision in any::<u64>(), epochs in any::<(Option<i32>, i32)>(), spec in spec(),
    ) {
        crosses::<_, wire::ProduceRequest>(produce)?;
        crosses::<_, wire::FetchRequest>(fetch)?;
        crosses::<_, wire::FetchResult>(fetched)?;
        crosses::<_, wire::ProduceResult>(appended)?;
        crosses::<_, wire::BrokerOffsetResult>(found)?;
        crosses::<_, wire::BrokerEpochResult>(end)?;
        let current_leader_epoch = epochs.0;
        crosses::<_, wire::PartitionOffsetQuery>(
            PartitionOffsetQuery { partition: at, revision, current_leader_epoch, spec },
        )?;
        crosses::<_, wire::PartitionEpochQuery>(
            PartitionEpochQuery { partition: at, revision, current_leader_epoch, leader_epoch: epochs.1 },
        )?;
    }

    #[test]
    fn storage_messages_cross(
        append in append_request(), appended in either(appended(), storage_error()),
        read in either((bounds(), records(), vec(aborted(), 0..3)), storage_error()),
        found in either(found(), storage_error()), end in either(epoch_end(), storage_error()),
        event in either(tail_event(), storage_error()),
        at in partition(), numbers in any::<(u32, u64, i64, u64, usize)>(), epochs in any::<(Option<i32>, i32)>(),
        spec in spec(),
    ) {
        crosses::<_, wire::AppendRequest>(append)?;
        crosses::<_, wire::AppendResult>(appended)?;
        let read = read.map(|(bounds, records, aborted)| Read { bounds, records, aborted });
        crosses::<_, wire::ReadResponse>(read)?;
        crosses::<_, wire::StorageOffsetResult>(found)?;
        crosses::<_, wire::StorageEpochResult>(end)?;
        crosses::<_, wire::TailEvent>(event)?;
        let (journal, revision, offset, credit, max_bytes) = numbers;
        let (journal, (current_leader_epoch, leader_epoch)) = (JournalId(journal), epochs);
        crosses::<_, wire::ReadRequest>(
            ReadRequest { journal, partition: at, revision, offset, max_bytes, current_leader_epoch },
        )?;
        crosses::<_, wire::OffsetQuery>(OffsetQuery { journal, partition: at, revision, current_leader_epoch, spec })?;
        crosses::<_, wire::EpochQuery>(
            EpochQuery { journal, partition: at, revision, current_leader_epoch, leader_epoch },
        )?;
        crosses::<_, wire::TailCommand>(TailCommand::Subscribe { journal, partition: at, revision, offset, credit })?;
        crosses::<_, wire::TailCommand>(TailCommand::Credit { partition: at, bytes: credit })?;
        crosses::<_, wire::TailCommand>(TailCommand::Unsubscribe { partition: at })?;
    }

    #[test]
    fn coordinator_messages_cross(
        role in any_role(), texts in vec(text(), 2), rack in option::of(text()), resume in any::<Option<u64>>(),
        incarnation in any::<u64>(), update in either(update(), coordinator_error()),
        opened in either(journal(), coordinator_error()),
        changed in either((topic(), any::<u64>()), coordinator_error()),
        new in (text(), any::<i32>(), any::<i16>(), configs()), change in change(), topic in topic_ref(),
        ids in either((0..i64::MAX / 2, 0..i64::MAX / 2), coordinator_error()),
    ) {
        let registration = Registration { role, name: texts[0].clone(), incarnation, address: texts[1].clone(), rack };
        crosses::<_, wire::JoinRequest>((registration, resume))?;
        crosses::<_, wire::ClusterUpdate>(update)?;
        crosses::<_, wire::OpenJournalResponse>(opened)?;
        crosses::<_, wire::ChangedTopic>(changed.map(|(topic, revision)| Changed { topic, revision }))?;
        let (name, partitions, replication_factor, configs) = new;
        crosses::<_, wire::NewTopic>(NewTopic { name, partitions, replication_factor, configs })?;
        crosses::<_, wire::ConfigChange>(change)?;
        crosses::<_, wire::TopicRef>(topic)?;
        crosses::<_, wire::AllocateProducerIdsResponse>(ids.map(|(start, length)| start..start + length))?;
    }

    #[test]
    fn a_damaged_message_is_an_error_or_a_value(
        produce in produce_request(), append in append_request(), event in either(tail_event(), storage_error()),
        update in either(update(), coordinator_error()), garbage in vec(any::<u8>(), 0..64),
        cut in any::<prop::sample::Index>(), damage in any::<(prop::sample::Index, u8)>(),
    ) {
        let samples = [
            wire::ProduceRequest::from(produce).encode_to_vec(),
            wire::AppendRequest::from(append).encode_to_vec(),
            wire::TailEvent::from(event).encode_to_vec(),
            wire::ClusterUpdate::from(update).encode_to_vec(),
            garbage,
        ];
        for mut bytes in samples {
            if !bytes.is_empty() {
                let at = damage.0.index(bytes.len());
                bytes[at] ^= damage.1;
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            bears::<ProduceRequest, wire::ProduceRequest>(&bytes);
            bears::<FetchRequest, wire::FetchRequest>(&bytes);
            bears::<Result<Fetched, BrokerError>, wire::FetchResult>(&bytes);
            bears::<AppendRequest, wire::AppendRequest>(&bytes);
            bears::<Result<Read, StorageError>, wire::ReadResponse>(&bytes);
            bears::<TailCommand, wire::TailCommand>(&bytes);
            bears::<Result<TailEvent, StorageError>, wire::TailEvent>(&bytes);
            bears::<Result<ClusterUpdate, CoordinatorError>, wire::ClusterUpdate>(&bytes);
            bears::<Result<Changed, CoordinatorError>, wire::ChangedTopic>(&bytes);
            bears::<(Registration, Option<u64>), wire::JoinRequest>(&bytes);
        }
    }
}

#[test]
fn what_is_absent_or_out_of_range_is_named() {
    fn why<M, W>(message: W) -> Malformed
    where
        M: Debug + TryFrom<W, Error = Malformed>,
    {
        M::try_from(message).unwrap_err()
    }
    assert_eq!(why::<ProduceRequest, _>(wire::ProduceRequest::default()), Malformed::Missing("acks"));
    assert_eq!(why::<AppendRequest, _>(wire::AppendRequest::default()), Malformed::Missing("route"));
    assert_eq!(why::<FetchRequest, _>(wire::FetchRequest::default()), Malformed::Missing("isolation"));
    assert_eq!(why::<OffsetSpec, _>(wire::OffsetSpec::default()), Malformed::Missing("spec"));
    assert_eq!(why::<TailCommand, _>(wire::TailCommand::default()), Malformed::Missing("command"));
    assert_eq!(why::<Record, _>(wire::Record::default()), Malformed::Missing("record"));
    assert_eq!(why::<Node, _>(wire::Node { role: 99, ..Default::default() }), Malformed::OutOfRange("role"));
    let wait = wire::FetchRequest { max_wait_ms: u32::MAX, isolation: 1, ..Default::default() };
    assert_eq!(why::<FetchRequest, _>(wait), Malformed::OutOfRange("max_wait"));
    let run = wire::TieredRun {
        partition: Some(wire::TopicPartition::default()),
        position: u64::MAX,
        length: 1,
        ..Default::default()
    };
    assert_eq!(why::<TieredRun, _>(run), Malformed::OutOfRange("run"));
    let ids = wire::allocate_producer_ids_response::Ids { start: 5, end: 4 };
    assert_eq!(why::<Range<i64>, _>(ids), Malformed::OutOfRange("producer ids"));
    assert!(matches!(
        why::<Batch, _>(wire::Batch { body: vec![2; 10].into(), ..Default::default() }),
        Malformed::Batch(_)
    ));
}

#[test]
fn payloads_are_slices_of_the_message_they_came_in() {
    let partition = TopicPartition::new(TopicId(Uuid::nil()), 0);
    let records = Bytes::from(vec![7; 10_000]);
    let request = ProduceRequest {
        gateway: NodeId(1),
        revision: 1,
        acks: Acks::All,
        timeout: Duration::ZERO,
        partitions: vec![ProducePartition { partition, records }],
    };
    let bytes = Bytes::from(wire::ProduceRequest::from(request).encode_to_vec());
    let message = wire::ProduceRequest::decode(bytes.clone()).unwrap();
    let request = ProduceRequest::try_from(message).unwrap();
    assert!(bytes.as_ptr_range().contains(&request.partitions[0].records.as_ptr()), "decoding copied the records");
}

#[test]
fn a_short_wait_does_not_become_none_and_a_long_one_is_cut() {
    assert_eq!(to_ms(Duration::from_nanos(1)), 1);
    assert_eq!(to_ms(Duration::ZERO), 0);
    assert_eq!(to_ms(Duration::MAX), MAX_WAIT_MS);
}
