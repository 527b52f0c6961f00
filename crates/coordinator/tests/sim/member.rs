//! What members of both protocols have in common: a process that reads partitions from where the group has committed, and
//! commits what it has read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::group::{
    CommitOffsets, FetchOffsets, GroupAnswer, GroupCall, GroupRequest, OffsetToCommit, TopicPartitions,
};
use tidemark_model::{GroupError, TopicId, TopicPartition};
use tidemark_segment::testing::sim::Chance;
use tokio::time::Instant;

use crate::coordinators::Outcome;
use crate::gateway::Gateway;
use crate::model::Group;
use crate::process::Process;

/// How long a member of the classic protocol may be silent, and let others wait.
pub const SESSION: Duration = Duration::from_secs(6);
pub const REBALANCE: Duration = Duration::from_secs(8);
/// Between two looks at its work.
pub const TICK: Duration = Duration::from_millis(300);
/// Before something is tried again that failed.
pub const RETRY: Duration = Duration::from_millis(100);
/// The most records of a partition at a time.
const MOST_RECORDS: u64 = 8;

/// The part that is the same for all members.
pub struct Reader {
    pub gateway: Arc<Gateway>,
    pub process: Arc<Process>,
    pub group: Group,
    pub topic: TopicId,
    pub chance: Chance,
    pub name: String,
    /// Of a static member (KIP-345).
    pub instance: Option<String>,
    /// Another member has its instance id: it is to end.
    pub is_fenced: bool,
    pub owned: BTreeSet<i32>,
    /// Where it reads on, of the partitions of which it knows that.
    positions: BTreeMap<i32, i64>,
    /// What it has read and not committed.
    unsaved: BTreeMap<i32, i64>,
}

/// As whom a member commits and fetches.
pub struct Identity {
    pub member_id: String,
    /// The generation, or the member epoch.
    pub at: i32,
    /// In the protocol of KIP-848.
    pub is_consumer: bool,
}

/// How a member is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    ForGood,
    /// A static member that is to come back: it leaves without taking leave.
    ForNow,
}

/// How a commit or a fetch ended, by what the member does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Yes,
    /// Later.
    Again,
    /// Something about the group has changed: it should ask at once.
    Ask,
}

impl Reader {
    pub fn new(
        gateway: &Arc<Gateway>,
        process: &Arc<Process>,
        group: &Group,
        topic: TopicId,
        chance: Chance,
        name: String,
        instance: Option<String>,
    ) -> Self {
        let (gateway, process, group) = (Arc::clone(gateway), Arc::clone(process), group.clone());
        let (owned, positions, unsaved) = Default::default();
        let is_fenced = false;
        Self { gateway, process, group, topic, chance, name, instance, is_fenced, owned, positions, unsaved }
    }

    /// Asks the group's coordinator, as a process that may be stopped at any time.
    pub async fn ask(&self, request: GroupRequest) -> Outcome {
        self.process.runs().await;
        let group = self.group.name.to_string();
        let call = GroupCall { group, client_id: self.name.clone(), client_host: "/sim".to_owned(), request };
        let outcome = self.gateway.ask(call).await;
        self.process.runs().await;
        outcome
    }

    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.process.runs().await;
    }

    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.group.trace.note(format_args!("{}/{}: {what}", self.group.name, self.name));
    }

    /// It owns exactly these, in a generation.
    pub fn owns(&mut self, generation: i32, partitions: BTreeSet<i32>) {
        self.positions.retain(|partition, _| partitions.contains(partition));
        self.unsaved.retain(|partition, _| partitions.contains(partition));
        self.group.owns(&self.name, self.instance.as_deref(), generation, &partitions);
        self.owned = partitions;
    }

    /// It stops reading these.
    pub fn gives_back(&mut self, partitions: &BTreeSet<i32>) {
        self.group.gives_back(&self.name, partitions);
        self.owned.retain(|partition| !partitions.contains(partition));
        self.positions.retain(|partition, _| !partitions.contains(partition));
        self.unsaved.retain(|partition, _| !partitions.contains(partition));
    }

    /// It hears that nothing is its own any more.
    pub fn loses(&mut self, why: &GroupError) {
        self.note(format_args!("loses {:?}: {why}", self.owned));
        self.group.trace.count("memberships lost");
        self.stops();
    }

    /// It hears that another process is what it was, and does nothing more.
    pub fn fenced(&mut self) {
        self.note(format_args!("is fenced"));
        self.group.trace.count("static members fenced");
        self.is_fenced = true;
        self.stops();
    }

    pub fn stops(&mut self) {
        self.group.stops(&self.name);
        self.owned.clear();
        self.positions.clear();
        self.unsaved.clear();
    }

    /// Reads what it may.
    pub fn work(&mut self) {
        for (partition, position) in &mut self.positions {
            let end = self.group.end(*partition);
            let to = (*position + 1 + self.chance.below(MOST_RECORDS) as i64).min(end);
            if to > *position {
                self.group.delivered(*partition, *position, to);
                *position = to;
                self.unsaved.insert(*partition, to);
            }
        }
    }

    /// Finds out where to read on, where it does not know.
    pub async fn look_up(&mut self, identity: &Identity) -> Done {
        let unknown: Vec<i32> =
            self.owned.iter().copied().filter(|partition| !self.positions.contains_key(partition)).collect();
        if unknown.is_empty() {
            return Done::Yes;
        }
        let floors: Vec<i64> = unknown.iter().map(|partition| self.group.floor(*partition)).collect();
        let topics = vec![TopicPartitions { topic: self.topic, partitions: unknown.clone() }];
        let request = FetchOffsets {
            member_id: identity.is_consumer.then(|| identity.member_id.clone()),
            member_epoch: if identity.is_consumer { identity.at } else { -1 },
            topics: Some(topics),
            require_stable: true,
        };
        match self.ask(GroupRequest::FetchOffsets(request)).await {
            Ok(GroupAnswer::FetchOffsets(fetched)) => {
                for fetched in fetched {
                    let partition = fetched.partition.partition;
                    let Some(floor) = unknown.iter().position(|unknown| *unknown == partition) else { continue };
                    let Ok(committed) = fetched.result else { continue };
                    let offset = committed.map(|committed| committed.offset);
                    self.group.fetched(&self.name, partition, floors[floor], offset);
                    self.positions.insert(partition, offset.unwrap_or(0));
                }
                Done::Yes
            }
            Ok(other) => self.nonsense(&other),
            Err(error) => self.failed("a fetch", &error),
        }
    }

    /// Commits what it has read of some partitions.
    pub async fn commit(&mut self, identity: &Identity, of: impl Fn(i32) -> bool) -> Done {
        let offsets: BTreeMap<i32, i64> =
            self.unsaved.iter().filter(|(partition, _)| of(**partition)).map(|(at, offset)| (*at, *offset)).collect();
        if offsets.is_empty() {
            return Done::Yes;
        }
        self.note(format_args!("commits {offsets:?} at {}", identity.at));
        self.group.committing(&offsets);
        let list = offsets.iter().map(|(partition, offset)| OffsetToCommit {
            partition: TopicPartition::new(self.topic, *partition),
            offset: *offset,
            leader_epoch: -1,
            metadata: String::new(),
        });
        let request = CommitOffsets {
            member_id: identity.member_id.clone(),
            instance_id: self.instance.clone(),
            generation_or_epoch: identity.at,
            understands_epochs: true,
            retention: None,
            offsets: list.collect(),
        };
        match self.ask(GroupRequest::CommitOffsets(request)).await {
            Ok(GroupAnswer::CommitOffsets(results)) => {
                let mut done = Done::Yes;
                for ((partition, offset), result) in offsets.iter().zip(results) {
                    match result {
                        Ok(()) => {
                            self.group.committed(*partition, *offset);
                            if self.unsaved.get(partition) == Some(offset) {
                                self.unsaved.remove(partition);
                            }
                        }
                        Err(error) => done = self.failed("a commit", &error),
                    }
                }
                done
            }
            Ok(other) => self.nonsense(&other),
            Err(error) => self.failed("a commit", &error),
        }
    }

    fn failed(&self, what: &str, error: &GroupError) -> Done {
        self.note(format_args!("{what} fails: {error}"));
        self.group.trace.count("commits and fetches that failed");
        match error {
            GroupError::NotCoordinator
            | GroupError::LoadInProgress
            | GroupError::Unavailable(_)
            | GroupError::TimedOut(_)
            | GroupError::UnstableOffset
            // A topic that has grown, which not every coordinator knows yet.
            | GroupError::UnknownTopicOrPartition => Done::Again,
            GroupError::RebalanceInProgress
            | GroupError::IllegalGeneration
            | GroupError::UnknownMemberId(_)
            | GroupError::FencedInstanceId
            | GroupError::StaleMemberEpoch(_)
            | GroupError::FencedMemberEpoch(_)
            | GroupError::GroupIdNotFound(_) => Done::Ask,
            other => {
                self.group.wrong(&format!("{} has {what} refused: {other:?}", self.name));
                Done::Again
            }
        }
    }

    pub fn nonsense(&self, answer: &GroupAnswer) -> Done {
        self.group.wrong(&format!("{} is answered {answer:?}", self.name));
        Done::Again
    }

    /// A member was told that it is one, in answer to what it sent then.
    pub fn is_well(&self, since: Instant) {
        self.group.is_well(&self.name, since);
    }
}
