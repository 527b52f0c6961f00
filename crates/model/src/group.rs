//! Consumer groups as the coordinator that owns them sees them: both protocols of Kafka, and committed offsets.
//!
//! A group belongs to a slot ([`crate::route::slot_for`]), and a slot to one coordinator at a time, which the cluster
//! state names. The requests are Kafka's, without their encodings: topics are ids, since what a client calls by a name is
//! the topic that has the name now.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::coordinator::ConfigChange;
use crate::{TopicId, TopicPartition};

/// A request to one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCall {
    pub group: String,
    /// As DescribeGroups shows them: the client's id, and `/` with its address.
    pub client_id: String,
    pub client_host: String,
    pub request: GroupRequest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRequest {
    Join(Join),
    Sync(Sync),
    Heartbeat(Member),
    /// Each is answered in its place.
    Leave(Vec<Leaving>),
    ConsumerHeartbeat(ConsumerHeartbeat),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    /// OffsetDelete (KIP-496). Each is answered in its place.
    DeleteOffsets(Vec<TopicPartition>),
    /// DescribeGroups: any group, as far as the classic protocol can tell.
    Describe,
    /// ConsumerGroupDescribe (KIP-848).
    DescribeConsumer,
    Delete,
    /// Configs of the group (KIP-848), all or none.
    AlterConfigs {
        changes: Vec<ConfigChange>,
        validate_only: bool,
    },
    /// The configs that are set on the group.
    DescribeConfigs,
}

/// The answer to the request of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAnswer {
    Join(Joined),
    Sync(Synced),
    Heartbeat,
    Leave(Vec<Result<(), GroupError>>),
    ConsumerHeartbeat(ConsumerHeartbeatAnswer),
    /// By the request's order.
    CommitOffsets(Vec<Result<(), GroupError>>),
    FetchOffsets(Vec<FetchedOffset>),
    DeleteOffsets(Vec<Result<(), GroupError>>),
    Describe(DescribedGroup),
    DescribeConsumer(DescribedConsumerGroup),
    Delete,
    AlterConfigs,
    DescribeConfigs(BTreeMap<String, String>),
}

/// JoinGroup, version 9 and below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Empty for a new member.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    pub protocol_type: String,
    /// By the member's preference.
    pub protocols: Vec<Protocol>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// A new dynamic member must come again with the id that it is given (KIP-394; from version 4 on).
    pub requires_member_id: bool,
    /// The leader can be told to skip the assignment (KIP-814; from version 9 on).
    pub can_skip_assignment: bool,
    pub reason: Option<String>,
}

/// An assignor and what the member tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol_name: String,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// All members with their metadata for the chosen protocol, for the leader only.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub member: Member,
    /// Checked against the group's when given (from version 5 on).
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader: what each member is to have.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol_name: String,
    pub assignment: Bytes,
}

/// A member of a generation, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// May be empty for a static member.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub reason: Option<String>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    pub topic: TopicId,
    pub partitions: Vec<i32>,
}

/// ConsumerGroupHeartbeat (KIP-848). What is `None` has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 is a static member that will come back.
    pub member_epoch: i32,
    pub instance_id: Option<String>,
    pub rack: Option<String>,
    pub rebalance_timeout: Option<Duration>,
    pub subscribed_topics: Option<Vec<String>>,
    /// In RE2's syntax; empty for no subscription by a pattern.
    pub subscribed_regex: Option<String>,
    /// `uniform` or `range`.
    pub server_assignor: Option<String>,
    pub owned: Option<Vec<TopicPartitions>>,
    /// The version leaves making the member's id to the client (from version 1 on).
    pub client_makes_id: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeatAnswer {
    pub member_id: String,
    pub member_epoch: i32,
    pub heartbeat_interval: Duration,
    /// Only when it changed.
    pub assignment: Option<Vec<TopicPartitions>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// Empty for a consumer that is no member.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// -1 for a consumer that is no member.
    pub generation_or_epoch: i32,
    /// The version can say STALE_MEMBER_EPOCH (from version 9 on), which a member of the protocol of KIP-848 must
    /// understand.
    pub understands_epochs: bool,
    /// How long the offsets are kept (versions 2 to 4); the cluster's setting otherwise.
    pub retention: Option<Duration>,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub partition: TopicPartition,
    pub offset: i64,
    /// -1 where the client did not say.
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    /// A member of a consumer group, which is fenced by its epoch (from version 9 on).
    pub member_id: Option<String>,
    pub member_epoch: i32,
    /// All that the group has committed when not given.
    pub topics: Option<Vec<TopicPartitions>>,
    /// Answers [`GroupError::UnstableOffset`] where a transaction is undecided (KIP-447).
    pub require_stable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: TopicPartition,
    /// None where nothing was committed.
    pub result: Result<Option<CommittedOffset>, GroupError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// A line of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    /// `Stable`, `Empty`, …
    pub state: String,
    pub kind: GroupKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    Classic,
    Consumer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub state: String,
    pub protocol_type: String,
    /// The chosen protocol, while the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    pub state: String,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumer {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack: Option<String>,
    pub member_epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topics: Vec<String>,
    pub subscribed_regex: Option<String>,
    pub assignment: Vec<TopicPartitions>,
    pub target: Vec<TopicPartitions>,
    /// It speaks the classic protocol in a consumer group.
    pub classic: bool,
}

/// Why a group's coordinator did not do it. Each is the Kafka error of the same name; what the client does is Kafka's
/// matter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// This coordinator does not own the group's slot: follow the cluster state and ask the one that does.
    #[error("another coordinator owns the group")]
    NotCoordinator,
    /// It owns the slot and has not read it yet: ask it again in a while.
    #[error("the group is being loaded")]
    LoadInProgress,
    /// The metadata store or the coordinator cannot be reached, and nothing was done: retry in a while.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Nothing was heard in time, or the way there broke: it may have been done, or be done still. Retry what may be done
    /// twice.
    #[error("timed out: {0}")]
    TimedOut(String),
    #[error("the group's name is not one")]
    InvalidGroupId,
    #[error("{0}")]
    GroupIdNotFound(String),
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("the group reads the topic")]
    GroupSubscribedToTopic,
    #[error("the group is full")]
    GroupMaxSizeReached,
    #[error("{0}")]
    UnknownMemberId(String),
    /// Join again with this id.
    #[error("join again as {0}")]
    MemberIdRequired(String),
    #[error("the group is at another generation")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("no protocol is common to all members")]
    InconsistentGroupProtocol,
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    #[error("another member has the instance id")]
    FencedInstanceId,
    #[error("{0}")]
    FencedMemberEpoch(String),
    #[error("{0}")]
    StaleMemberEpoch(String),
    #[error("{0}")]
    UnreleasedInstanceId(String),
    #[error("{0}")]
    UnsupportedAssignor(String),
    #[error("{0}")]
    InvalidRegularExpression(String),
    #[error("the metadata of an offset is too long")]
    OffsetMetadataTooLarge,
    #[error("the offset is part of a transaction that is not decided")]
    UnstableOffset,
    #[error("unknown partition")]
    UnknownTopicOrPartition,
    #[error("{0}")]
    InvalidConfig(String),
    #[error("{0}")]
    InvalidRequest(String),
    /// It does not fit into a record of the metadata store.
    #[error("{0}")]
    TooLarge(String),
    /// The group's protocol needs a newer version of the request.
    #[error("{0}")]
    UnsupportedVersion(String),
}

/// One coordinator, as the owner of groups.
#[async_trait]
pub trait GroupCoordinator: Send + std::marker::Sync {
    /// Asks a group, which this coordinator has to own.
    ///
    /// A call takes its place in the order when it is made, not when its future is first polled: calls of one caller for
    /// one group are handled in the order they were made. A join, and a sync, are answered when the group is ready, which
    /// may take its rebalance timeout. Dropping the future does not undo the call.
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>>;

    /// Every group of the slots that this coordinator owns.
    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError>;
}
