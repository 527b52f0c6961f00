//! Clients as they behave, each of which reads partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemark_model::group::{
    ConsumerHeartbeat, GroupAnswer, GroupRequest, Join, Joined, Member, Protocol, Sync, TopicPartitions,
};
use tidemark_model::{ClusterState, GroupError};
use tidemark_wire::consumer_protocol as wire;

use crate::groups::Ticket;
use crate::groups::assignor::Partitions;
use crate::groups::consumer::reconcile::to_list;
use crate::groups::kit::{Outcome, Seeded, ms};

pub(super) struct Client {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    /// Its process runs. Dead clients read nothing.
    pub(super) runs: bool,
    /// It does not send anything until it goes on.
    pub(super) paused: bool,
    /// What it reads.
    pub(super) owned: Partitions,
    pub(super) topics: Vec<String>,
    pub(super) side: Side,
}

pub(super) enum Side {
    Consumer(Consumer),
    Classic(Classic),
}

#[derive(Default)]
pub(super) struct Consumer {
    /// 0 before it has joined.
    pub(super) epoch: i32,
    pub(super) regex: Option<String>,
    pub(super) assignor: Option<String>,
    /// What it was told to have.
    assigned: Partitions,
    /// What the coordinator was told last. None: everything has to be told.
    told: Option<(Vec<String>, Partitions)>,
    waits: Option<Ticket>,
}

#[derive(Default)]
pub(super) struct Classic {
    pub(super) phase: Phase,
    /// Never heard of in the first phase.
    pub(super) generation: i32,
    waits: Option<Ticket>,
    /// What it has joined for.
    joined_for: Vec<String>,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Out,
    Syncing(Joined),
    In,
}

impl Client {
    pub(super) fn consumer(id: String, instance: Option<String>, topics: Vec<String>, random: &Seeded) -> Self {
        let regex = (random.below(4) == 0).then(|| "t[0-4]".to_owned());
        let assignor = [None, Some("uniform"), Some("range")][random.below(3)].map(str::to_owned);
        let side = Side::Consumer(Consumer { regex, assignor, ..Consumer::default() });
        Self { id, instance, runs: true, paused: false, owned: Partitions::new(), topics, side }
    }

    pub(super) fn classic(instance: Option<String>, topics: Vec<String>) -> Self {
        let (id, side) = (String::new(), Side::Classic(Classic::default()));
        Self { id, instance, runs: true, paused: false, owned: Partitions::new(), topics, side }
    }

    /// What it would send next. None while it waits for an answer.
    pub(super) fn next_request(&mut self) -> Option<GroupRequest> {
        match &mut self.side {
            Side::Consumer(consumer) if consumer.waits.is_some() => None,
            Side::Consumer(consumer) => Some(GroupRequest::ConsumerHeartbeat(consumer.request(
                &self.id,
                &self.instance,
                &self.topics,
                &self.owned,
            ))),
            Side::Classic(classic) if classic.waits.is_some() => None,
            Side::Classic(classic) => Some(match &classic.phase {
                Phase::In if classic.joined_for == self.topics => GroupRequest::Heartbeat(Member {
                    member_id: self.id.clone(),
                    instance_id: self.instance.clone(),
                    generation: classic.generation,
                }),
                Phase::In | Phase::Out => {
                    classic.phase = Phase::Out;
                    classic.joined_for.clone_from(&self.topics);
                    // It is eager: it stops reading before it asks for more.
                    self.owned.clear();
                    GroupRequest::Join(join(&self.id, &self.instance, &self.topics))
                }
                Phase::Syncing(joined) => GroupRequest::Sync(Sync {
                    member: Member {
                        member_id: self.id.clone(),
                        instance_id: self.instance.clone(),
                        generation: joined.generation,
                    },
                    protocol_type: None,
                    protocol_name: None,
                    assignments: lead(joined),
                }),
            }),
        }
    }

    pub(super) fn waits_for(&mut self, ticket: Ticket) {
        match &mut self.side {
            Side::Classic(classic) => classic.waits = Some(ticket),
            Side::Consumer(consumer) => consumer.waits = Some(ticket),
        }
    }

    pub(super) fn waiting(&self) -> Option<Ticket> {
        match &self.side {
            Side::Classic(classic) => classic.waits,
            Side::Consumer(consumer) => consumer.waits,
        }
    }

    /// It heard nothing, and does not know what became of its request.
    pub(super) fn lost(&mut self) {
        match &mut self.side {
            Side::Consumer(consumer) => {
                (consumer.told, consumer.waits) = (None, None);
                // Nor does it take up what it had been told before and not told to have. Where the coordinator took it for
                // given back, as Kafka does, it may be somebody else's by now.
                consumer.assigned.clone_from(&self.owned);
            }
            Side::Classic(classic) => {
                classic.waits = None;
                if !matches!(classic.phase, Phase::In) {
                    classic.phase = Phase::Out;
                }
            }
        }
    }

    pub(super) fn heard(&mut self, outcome: Outcome, cluster: &ClusterState) {
        if let Side::Consumer(consumer) = &mut self.side {
            consumer.waits = None;
        }
        match &mut self.side {
            Side::Consumer(consumer) => match outcome {
                Ok(GroupAnswer::ConsumerHeartbeat(answer)) => {
                    consumer.epoch = answer.member_epoch;
                    if let Some(assignment) = answer.assignment {
                        consumer.assigned = from_list(&assignment);
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(GroupError::UnreleasedInstanceId(_) | GroupError::GroupMaxSizeReached) => consumer.told = None,
                Err(GroupError::FencedInstanceId) => self.dies(),
                Err(
                    GroupError::FencedMemberEpoch(_) | GroupError::UnknownMemberId(_) | GroupError::GroupIdNotFound(_),
                ) => {
                    (consumer.epoch, consumer.told) = (0, None);
                    consumer.assigned.clear();
                    self.owned.clear();
                }
                Err(error) => panic!("{error:?}"),
            },
            Side::Classic(classic) => {
                classic.waits = None;
                match outcome {
                    Ok(GroupAnswer::Join(joined)) => {
                        self.id.clone_from(&joined.member_id);
                        classic.generation = joined.generation;
                        classic.phase = Phase::Syncing(joined);
                    }
                    Ok(GroupAnswer::Sync(synced)) => {
                        classic.phase = Phase::In;
                        self.owned = read_assignment(synced.assignment, cluster);
                    }
                    Ok(GroupAnswer::Heartbeat) => {}
                    Ok(other) => panic!("{other:?}"),
                    Err(GroupError::FencedInstanceId) => self.dies(),
                    Err(error) => {
                        classic.phase = Phase::Out;
                        self.owned.clear();
                        match error {
                            GroupError::MemberIdRequired(id) => self.id = id,
                            GroupError::UnknownMemberId(_) => self.id.clear(),
                            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => {}
                            error => panic!("{error:?}"),
                        }
                    }
                }
            }
        }
    }

    /// It stops reading what it has to give back, and then reads what it was given.
    pub(super) fn works(&mut self) {
        let Side::Consumer(consumer) = &self.side else { return };
        if consumer.epoch > 0 {
            self.owned.clone_from(&consumer.assigned);
        }
    }

    pub(super) fn dies(&mut self) {
        self.lost();
        self.runs = false;
        self.owned.clear();
    }

    pub(super) fn is_consumer(&self) -> bool {
        matches!(self.side, Side::Consumer(_))
    }
}

impl Consumer {
    fn request(
        &mut self,
        id: &str,
        instance: &Option<String>,
        topics: &[String],
        owned: &Partitions,
    ) -> ConsumerHeartbeat {
        if self.epoch == 0 {
            self.told = None;
        }
        let told = self.told.replace((topics.to_vec(), owned.clone()));
        let is_full = told.is_none();
        let news = |is_news: bool| is_full || is_news;
        let (topics_before, owned_before) = told.unwrap_or_default();
        ConsumerHeartbeat {
            member_id: id.to_owned(),
            member_epoch: self.epoch,
            instance_id: instance.clone(),
            rack: None,
            rebalance_timeout: is_full.then_some(ms(30_000)),
            subscribed_topics: news(topics_before != topics).then(|| topics.to_vec()),
            subscribed_regex: is_full.then(|| self.regex.clone().unwrap_or_default()),
            server_assignor: is_full.then(|| self.assignor.clone()).flatten(),
            owned: news(owned_before != *owned).then(|| to_list(owned)),
            client_makes_id: true,
        }
    }
}

fn join(id: &str, instance: &Option<String>, topics: &[String]) -> Join {
    let subscription = wire::Subscription { topics: topics.to_vec(), ..wire::Subscription::default() };
    Join {
        member_id: id.to_owned(),
        instance_id: instance.clone(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: subscription.encode(1).unwrap() }],
        session_timeout: ms(45_000),
        rebalance_timeout: ms(30_000),
        requires_member_id: true,
        can_skip_assignment: true,
        reason: None,
    }
}

/// What the leader of a classic group assigns: each topic's partitions, of which it knows twelve, in turn.
fn lead(joined: &Joined) -> Vec<(String, Bytes)> {
    if joined.members.is_empty() {
        return Vec::new();
    }
    let mut given: BTreeMap<&str, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
    let mut subscribers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for member in &joined.members {
        given.entry(&member.member_id).or_default();
        for topic in wire::Subscription::decode(member.metadata.clone()).unwrap().topics {
            subscribers.entry(topic).or_default().push(&member.member_id);
        }
    }
    for (topic, subscribers) in subscribers {
        for (partition, member) in (0..12).zip(subscribers.iter().cycle()) {
            given.entry(member).or_default().entry(topic.clone()).or_default().push(partition);
        }
    }
    let assignments = given.into_iter().map(|(member, topics)| {
        let partitions = topics.into_iter().map(|(topic, partitions)| wire::TopicPartitions { topic, partitions });
        let assignment = wire::Assignment { partitions: partitions.collect(), user_data: None };
        (member.to_owned(), assignment.encode(1).unwrap())
    });
    assignments.collect()
}

fn read_assignment(bytes: Bytes, cluster: &ClusterState) -> Partitions {
    let mut owned = Partitions::new();
    if bytes.is_empty() {
        return owned;
    }
    for named in wire::Assignment::decode(bytes).unwrap().partitions {
        let Some(topic) = cluster.topic_named(&named.topic) else { continue };
        let exists = named.partitions.into_iter().filter(|partition| (*partition as usize) < topic.partitions.len());
        owned.entry(topic.id).or_default().extend(exists);
    }
    owned
}

fn from_list(list: &[TopicPartitions]) -> Partitions {
    list.iter().map(|listed| (listed.topic, listed.partitions.iter().copied().collect())).collect()
}
