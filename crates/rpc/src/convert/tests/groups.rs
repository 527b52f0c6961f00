//! `group.proto`.

use tidemark_model::group::*;

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..50).prop_map(Bytes::from)
}

fn topics() -> impl Strategy<Value = Vec<TopicPartitions>> {
    let topic = (any::<u128>(), vec(any::<i32>(), 0..4));
    vec(topic.prop_map(|(id, partitions)| TopicPartitions { topic: TopicId(Uuid::from_u128(id)), partitions }), 0..3)
}

fn error() -> impl Strategy<Value = GroupError> {
    let plain = prop::sample::select(vec![
        GroupError::NotCoordinator,
        GroupError::LoadInProgress,
        GroupError::InvalidGroupId,
        GroupError::NonEmptyGroup,
        GroupError::GroupSubscribedToTopic,
        GroupError::GroupMaxSizeReached,
        GroupError::IllegalGeneration,
        GroupError::RebalanceInProgress,
        GroupError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout,
        GroupError::FencedInstanceId,
        GroupError::OffsetMetadataTooLarge,
        GroupError::UnstableOffset,
        GroupError::UnknownTopicOrPartition,
    ]);
    let telling: [fn(String) -> GroupError; 14] = [
        GroupError::Unavailable,
        GroupError::TimedOut,
        GroupError::GroupIdNotFound,
        GroupError::UnknownMemberId,
        GroupError::MemberIdRequired,
        GroupError::FencedMemberEpoch,
        GroupError::StaleMemberEpoch,
        GroupError::UnreleasedInstanceId,
        GroupError::UnsupportedAssignor,
        GroupError::InvalidRegularExpression,
        GroupError::InvalidConfig,
        GroupError::InvalidRequest,
        GroupError::TooLarge,
        GroupError::UnsupportedVersion,
    ];
    prop_oneof![plain, (prop::sample::select(telling.to_vec()), text()).prop_map(|(error, text)| error(text))]
}

prop_compose! {
    fn join()(
        member_id in text(), instance_id in option::of(text()), protocol_type in text(),
        protocols in vec((text(), bytes()), 0..3), times in (wait(), wait()), flags in any::<(bool, bool)>(),
        reason in option::of(text()),
    ) -> Join {
        let protocols = protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata }).collect();
        Join {
            member_id, instance_id, protocol_type, protocols, session_timeout: times.0, rebalance_timeout: times.1,
            requires_member_id: flags.0, can_skip_assignment: flags.1, reason,
        }
    }
}

prop_compose! {
    fn member()(member_id in text(), instance_id in option::of(text()), generation in any::<i32>()) -> Member {
        Member { member_id, instance_id, generation }
    }
}

prop_compose! {
    fn sync()(
        member in member(), protocol in (option::of(text()), option::of(text())),
        assignments in vec((text(), bytes()), 0..3),
    ) -> Sync {
        Sync { member, protocol_type: protocol.0, protocol_name: protocol.1, assignments }
    }
}

prop_compose! {
    fn consumer_heartbeat()(
        member_id in text(), member_epoch in any::<i32>(), instance_id in option::of(text()), rack in option::of(text()),
        rebalance_timeout in option::of(wait()), subscribed_topics in option::of(vec(text(), 0..3)),
        texts in (option::of(text()), option::of(text())), owned in option::of(topics()), client_makes_id in any::<bool>(),
    ) -> ConsumerHeartbeat {
        let (subscribed_regex, server_assignor) = texts;
        ConsumerHeartbeat {
            member_id, member_epoch, instance_id, rack, rebalance_timeout, subscribed_topics, subscribed_regex,
            server_assignor, owned, client_makes_id,
        }
    }
}

prop_compose! {
    fn commit()(
        member_id in text(), instance_id in option::of(text()), numbers in any::<(i32, bool)>(),
        retention in option::of(any::<u64>()), offsets in vec((partition(), any::<(i64, i32)>(), text()), 0..4),
    ) -> CommitOffsets {
        let offset = |(partition, (offset, leader_epoch), metadata)| OffsetToCommit { partition, offset, leader_epoch, metadata };
        CommitOffsets {
            member_id, instance_id, generation_or_epoch: numbers.0, understands_epochs: numbers.1,
            retention: retention.map(Duration::from_millis), offsets: offsets.into_iter().map(offset).collect(),
        }
    }
}

prop_compose! {
    fn fetch()(
        member_id in option::of(text()), member_epoch in any::<i32>(), topics in option::of(topics()),
        require_stable in any::<bool>(),
    ) -> FetchOffsets {
        FetchOffsets { member_id, member_epoch, topics, require_stable }
    }
}

fn leaving() -> impl Strategy<Value = Leaving> {
    let parts = (text(), option::of(text()), option::of(text()));
    parts.prop_map(|(member_id, instance_id, reason)| Leaving { member_id, instance_id, reason })
}

fn request() -> impl Strategy<Value = GroupRequest> {
    prop_oneof![
        join().prop_map(GroupRequest::Join),
        sync().prop_map(GroupRequest::Sync),
        member().prop_map(GroupRequest::Heartbeat),
        vec(leaving(), 0..3).prop_map(GroupRequest::Leave),
        consumer_heartbeat().prop_map(GroupRequest::ConsumerHeartbeat),
        commit().prop_map(GroupRequest::CommitOffsets),
        fetch().prop_map(GroupRequest::FetchOffsets),
        vec(partition(), 0..4).prop_map(GroupRequest::DeleteOffsets),
        Just(GroupRequest::Describe),
        Just(GroupRequest::DescribeConsumer),
        Just(GroupRequest::Delete),
        (vec(change(), 0..3), any::<bool>())
            .prop_map(|(changes, validate_only)| GroupRequest::AlterConfigs { changes, validate_only }),
        Just(GroupRequest::DescribeConfigs),
    ]
}

prop_compose! {
    fn joined()(
        generation in any::<i32>(), texts in vec(text(), 4), skip_assignment in any::<bool>(),
        members in vec((text(), option::of(text()), bytes()), 0..3),
    ) -> Joined {
        let [protocol_type, protocol_name, leader, member_id] = <[String; 4]>::try_from(texts).expect("as many as asked for");
        let member = |(member_id, instance_id, metadata)| JoinedMember { member_id, instance_id, metadata };
        let members = members.into_iter().map(member).collect();
        Joined { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members }
    }
}

prop_compose! {
    fn described()(
        texts in vec(text(), 3), members in vec((vec(text(), 3), option::of(text()), bytes(), bytes()), 0..3),
    ) -> DescribedGroup {
        let [state, protocol_type, protocol] = <[String; 3]>::try_from(texts).expect("as many as asked for");
        let member = |(texts, instance_id, metadata, assignment)| {
            let [member_id, client_id, client_host] = <[String; 3]>::try_from(texts).expect("as many as asked for");
            DescribedMember { member_id, instance_id, client_id, client_host, metadata, assignment }
        };
        DescribedGroup { state, protocol_type, protocol, members: members.into_iter().map(member).collect() }
    }
}

prop_compose! {
    fn consumer()(
        texts in vec(text(), 3), instance_id in option::of(text()), rack in option::of(text()), member_epoch in any::<i32>(),
        subscribed_topics in vec(text(), 0..3), subscribed_regex in option::of(text()), assignment in topics(),
        target in topics(), classic in any::<bool>(),
    ) -> DescribedConsumer {
        let [member_id, client_id, client_host] = <[String; 3]>::try_from(texts).expect("as many as asked for");
        DescribedConsumer {
            member_id, instance_id, rack, member_epoch, client_id, client_host, subscribed_topics, subscribed_regex,
            assignment, target, classic,
        }
    }
}

fn results() -> impl Strategy<Value = Vec<Result<(), GroupError>>> {
    vec(prop_oneof![Just(Ok(())), error().prop_map(Err)], 0..4)
}

fn fetched() -> impl Strategy<Value = FetchedOffset> {
    let committed = (any::<(i64, i32)>(), text());
    let committed =
        committed.prop_map(|((offset, leader_epoch), metadata)| CommittedOffset { offset, leader_epoch, metadata });
    let result = prop_oneof![option::of(committed).prop_map(Ok), error().prop_map(Err)];
    (partition(), result).prop_map(|(partition, result)| FetchedOffset { partition, result })
}

fn answer() -> impl Strategy<Value = GroupAnswer> {
    let heartbeat = (text(), any::<i32>(), wait(), option::of(topics()));
    let consumers = (text(), any::<(i32, i32)>(), text(), vec(consumer(), 0..3));
    prop_oneof![
        joined().prop_map(GroupAnswer::Join),
        (text(), text(), bytes()).prop_map(|(protocol_type, protocol_name, assignment)| {
            GroupAnswer::Sync(Synced { protocol_type, protocol_name, assignment })
        }),
        Just(GroupAnswer::Heartbeat),
        results().prop_map(GroupAnswer::Leave),
        heartbeat.prop_map(|(member_id, member_epoch, heartbeat_interval, assignment)| {
            let answer = ConsumerHeartbeatAnswer { member_id, member_epoch, heartbeat_interval, assignment };
            GroupAnswer::ConsumerHeartbeat(answer)
        }),
        results().prop_map(GroupAnswer::CommitOffsets),
        vec(fetched(), 0..4).prop_map(GroupAnswer::FetchOffsets),
        results().prop_map(GroupAnswer::DeleteOffsets),
        described().prop_map(GroupAnswer::Describe),
        consumers.prop_map(|(state, (epoch, assignment_epoch), assignor, members)| {
            GroupAnswer::DescribeConsumer(DescribedConsumerGroup { state, epoch, assignment_epoch, assignor, members })
        }),
        Just(GroupAnswer::Delete),
        Just(GroupAnswer::AlterConfigs),
        configs().prop_map(GroupAnswer::DescribeConfigs),
    ]
}

fn listed() -> impl Strategy<Value = ListedGroup> {
    (text(), text(), text(), any::<bool>()).prop_map(|(group, protocol_type, state, classic)| {
        let kind = if classic { GroupKind::Classic } else { GroupKind::Consumer };
        ListedGroup { group, protocol_type, state, kind }
    })
}

/// An answer as its stream carries it.
#[derive(Debug, Clone)]
struct Carried(Result<GroupAnswer, GroupError>);

impl From<Carried> for wire::GroupAnswer {
    fn from(Carried(answer): Carried) -> Self {
        Self { sequence: 7, result: Some(answer.into()) }
    }
}

impl TryFrom<wire::GroupAnswer> for Carried {
    type Error = Malformed;

    fn try_from(answer: wire::GroupAnswer) -> Result<Self, Malformed> {
        Result::try_from(answer).map(Self)
    }
}

proptest! {
    #[test]
    fn group_messages_cross(
        texts in vec(text(), 3), request in request(), answer in either(answer(), error()),
        groups in either(vec(listed(), 0..4), error()),
    ) {
        let [group, client_id, client_host] = <[String; 3]>::try_from(texts).expect("as many as asked for");
        crosses::<_, wire::GroupCall>(GroupCall { group, client_id, client_host, request })?;
        crosses::<_, wire::GroupAnswer>(Carried(answer))?;
        crosses::<_, wire::ListGroupsResponse>(groups)?;
    }

    #[test]
    fn a_damaged_message_of_a_group_is_an_error_or_a_value(
        request in request(), answer in answer(), cut in any::<prop::sample::Index>(),
        damage in any::<(prop::sample::Index, u8)>(),
    ) {
        let call = GroupCall { group: "g".into(), client_id: "c".into(), client_host: "/h".into(), request };
        let samples = [wire::GroupCall::from(call).encode_to_vec(), wire::GroupAnswer::from(Carried(Ok(answer))).encode_to_vec()];
        for mut bytes in samples {
            let at = damage.0.index(bytes.len());
            bytes[at] ^= damage.1;
            bytes.truncate(cut.index(bytes.len()) + 1);
            bears::<GroupCall, wire::GroupCall>(&bytes);
            bears::<Carried, wire::GroupAnswer>(&bytes);
            bears::<Result<Vec<ListedGroup>, GroupError>, wire::ListGroupsResponse>(&bytes);
        }
    }
}

#[test]
fn what_a_group_message_lacks_is_named() {
    assert_eq!(GroupCall::try_from(wire::GroupCall::default()).unwrap_err(), Malformed::Missing("request"));
    assert_eq!(Carried::try_from(wire::GroupAnswer::default()).unwrap_err(), Malformed::Missing("result"));
    let unknown = wire::listed_groups::Group { kind: 9, ..Default::default() };
    assert_eq!(ListedGroup::try_from(unknown).unwrap_err(), Malformed::OutOfRange("kind"));
}

#[test]
fn an_empty_list_is_not_an_absent_one() {
    for topics in [None, Some(vec![])] {
        let fetch = FetchOffsets { member_id: None, member_epoch: -1, topics: topics.clone(), require_stable: false };
        let bytes = wire::FetchOffsets::from(fetch).encode_to_vec();
        let again = FetchOffsets::try_from(wire::FetchOffsets::decode(&bytes[..]).unwrap()).unwrap();
        assert_eq!(again.topics, topics);
    }
}
