//! A member of the classic protocol, eager or incremental.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Join, Joined, Leaving, Member, Protocol, Sync};
use tidemark_wire::consumer_protocol as wire;
use tokio::time::Instant;

use crate::member::{Done, Identity, Leave, REBALANCE, RETRY, Reader, SESSION, TICK};

/// How often it looks whether the topic has grown.
const METADATA: Duration = Duration::from_secs(1);

pub struct Classic {
    pub reader: Reader,
    /// It keeps through a rebalance what stays its own.
    pub is_incremental: bool,
    member_id: String,
    /// -1: none.
    generation: i32,
    /// The partitions of the topic as they were when it joined.
    seen: i32,
    /// Its group is one of the other protocol, in which nobody leads.
    is_led: bool,
}

/// Why it leaves the loop of a stable group.
enum Ends {
    Rejoins,
    Leaves(Leave),
}

impl Classic {
    pub fn new(reader: Reader, is_incremental: bool) -> Self {
        Self { reader, is_incremental, member_id: String::new(), generation: -1, seen: 0, is_led: true }
    }

    /// Is a member until it is to leave.
    pub async fn run(mut self, leaving: impl Fn() -> Option<Leave>) {
        while !self.reader.is_fenced {
            if let Some(how) = leaving() {
                return self.leave(how).await;
            }
            if !self.join().await {
                self.reader.sleep(RETRY).await;
                continue;
            }
            match self.stay(&leaving).await {
                Ends::Rejoins => self.prepare().await,
                Ends::Leaves(how) => return self.leave(how).await,
            }
        }
    }

    /// Joins and syncs. Returns whether it is in a generation.
    async fn join(&mut self) -> bool {
        self.seen = self.reader.gateway.partitions(&self.reader.group.name);
        let subscription = wire::Subscription {
            topics: vec![self.reader.group.name.to_string()],
            owned: self.listed(&self.reader.owned),
            generation: self.generation,
            ..wire::Subscription::default()
        };
        let name = if self.is_incremental { "cooperative-sticky" } else { "range" };
        let join = Join {
            member_id: self.member_id.clone(),
            instance_id: self.reader.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: name.to_owned(), metadata: subscription.encode(3).expect("it is short") }],
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            requires_member_id: true,
            can_skip_assignment: true,
            reason: None,
        };
        let joined = match self.reader.ask(GroupRequest::Join(join)).await {
            Ok(GroupAnswer::Join(joined)) => joined,
            Ok(other) => {
                self.reader.nonsense(&other);
                return false;
            }
            Err(error) => {
                self.failed("a join", error);
                return false;
            }
        };
        self.member_id.clone_from(&joined.member_id);
        if self.is_led == joined.leader.is_empty() {
            self.is_led = !self.is_led;
            self.reader
                .note(format_args!("is in a group of the {} protocol", if self.is_led { "same" } else { "other" }));
            self.reader.group.trace.count(if self.is_led {
                "members in a group that came back to their protocol"
            } else {
                "members in a group that went over to the other protocol"
            });
        }
        let sync = Sync {
            member: self.member(joined.generation),
            protocol_type: Some(joined.protocol_type.clone()),
            protocol_name: Some(joined.protocol_name.clone()),
            assignments: self.lead(&joined),
        };
        let synced = match self.reader.ask(GroupRequest::Sync(sync)).await {
            Ok(GroupAnswer::Sync(synced)) => synced,
            Ok(other) => {
                self.reader.nonsense(&other);
                return false;
            }
            Err(error) => {
                self.failed("a sync", error);
                return false;
            }
        };
        let is_leader = joined.leader == joined.member_id;
        if is_leader && joined.skip_assignment {
            // What was assigned before is known to it: as Kafka's clients are, it would be blind to what came meanwhile.
            self.seen = self.reader.group.assigned();
        } else if is_leader {
            self.reader.group.assigns(self.seen);
        }
        self.take(joined.generation, synced.assignment).await
    }

    /// Takes what it is assigned. Returns whether that is all.
    async fn take(&mut self, generation: i32, assignment: Bytes) -> bool {
        let mut assigned = BTreeSet::new();
        if !assignment.is_empty() {
            match wire::Assignment::decode(assignment) {
                Ok(assignment) => {
                    assigned.extend(assignment.partitions.into_iter().flat_map(|topic| topic.partitions));
                }
                Err(error) => self.reader.group.wrong(&format!("an assignment that nobody has made: {error}")),
            }
        }
        self.generation = generation;
        let revoked: BTreeSet<i32> = self.reader.owned.difference(&assigned).copied().collect();
        let identity = self.identity();
        self.reader.commit(&identity, |partition| revoked.contains(&partition)).await;
        self.reader.gives_back(&revoked);
        self.reader.owns(generation, assigned);
        // Who has given something back joins again, so that somebody gets it.
        revoked.is_empty()
    }

    async fn stay(&mut self, leaving: &impl Fn() -> Option<Leave>) -> Ends {
        let mut looked = Instant::now();
        loop {
            self.reader.work();
            let identity = self.identity();
            // Heartbeats go on whatever comes of these.
            if self.reader.look_up(&identity).await == Done::Yes && !self.reader.chance.one_in(3) {
                self.reader.commit(&identity, |_| true).await;
            }
            if let Some(how) = leaving() {
                return Ends::Leaves(how);
            }
            if !self.beat().await {
                return Ends::Rejoins;
            }
            if looked.elapsed() >= METADATA {
                looked = Instant::now();
                if self.reader.gateway.partitions(&self.reader.group.name) != self.seen {
                    self.reader.note(format_args!("sees that the topic has grown"));
                    return Ends::Rejoins;
                }
            }
            self.reader.sleep(TICK).await;
        }
    }

    /// Returns whether all stays as it is.
    async fn beat(&mut self) -> bool {
        let since = Instant::now();
        match self.reader.ask(GroupRequest::Heartbeat(self.member(self.generation))).await {
            Ok(GroupAnswer::Heartbeat) => {
                self.reader.is_well(since);
                true
            }
            Ok(other) => {
                self.reader.nonsense(&other);
                true
            }
            Err(error) => !self.failed("a heartbeat", error),
        }
    }

    /// Gets ready to join again: an eager member gives everything back first.
    async fn prepare(&mut self) {
        let identity = self.identity();
        if self.generation >= 0 {
            self.reader.commit(&identity, |_| true).await;
        }
        if !self.is_incremental {
            let all = self.reader.owned.clone();
            self.reader.gives_back(&all);
        }
    }

    async fn leave(&mut self, how: Leave) {
        let identity = self.identity();
        if self.generation >= 0 {
            self.reader.commit(&identity, |_| true).await;
        }
        self.reader.stops();
        self.reader.note(format_args!("leaves {how:?}"));
        let instance_id = self.reader.instance.clone();
        // Static members do not take leave by themselves, and where they do it is for good.
        if !self.member_id.is_empty() && (how == Leave::ForGood || instance_id.is_none()) {
            let leaving = Leaving { member_id: self.member_id.clone(), instance_id, reason: None };
            // Once: who is not heard is missed by the group.
            let _ = self.reader.ask(GroupRequest::Leave(vec![leaving])).await;
        }
    }

    /// Takes an error as the clients do. Returns whether it has to join again.
    fn failed(&mut self, what: &str, error: GroupError) -> bool {
        self.reader.note(format_args!("{what} fails: {error}"));
        match error {
            GroupError::MemberIdRequired(id) => {
                self.member_id = id;
                true
            }
            GroupError::RebalanceInProgress => true,
            GroupError::FencedInstanceId => {
                self.generation = -1;
                self.reader.fenced();
                true
            }
            GroupError::IllegalGeneration => {
                self.generation = -1;
                self.reader.loses(&error);
                true
            }
            GroupError::UnknownMemberId(_) => {
                (self.generation, self.member_id) = (-1, String::new());
                self.reader.loses(&error);
                true
            }
            GroupError::NotCoordinator
            | GroupError::LoadInProgress
            | GroupError::Unavailable(_)
            | GroupError::TimedOut(_) => false,
            other => {
                self.reader.group.wrong(&format!("{} has {what} refused: {other:?}", self.reader.name));
                false
            }
        }
    }

    fn member(&self, generation: i32) -> Member {
        Member { member_id: self.member_id.clone(), instance_id: self.reader.instance.clone(), generation }
    }

    fn identity(&self) -> Identity {
        Identity { member_id: self.member_id.clone(), at: self.generation, is_consumer: false }
    }

    fn listed(&self, partitions: &BTreeSet<i32>) -> Vec<wire::TopicPartitions> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let topic = self.reader.group.name.to_string();
        vec![wire::TopicPartitions { topic, partitions: partitions.iter().copied().collect() }]
    }

    /// What the leader assigns to each.
    fn lead(&self, joined: &Joined) -> Vec<(String, Bytes)> {
        if joined.leader != joined.member_id || joined.skip_assignment {
            return Vec::new();
        }
        let mut had: BTreeMap<&str, (i32, BTreeSet<i32>)> = BTreeMap::new();
        for member in &joined.members {
            let subscription = wire::Subscription::decode(member.metadata.clone());
            let subscription = subscription.unwrap_or_else(|error| {
                self.reader.group.wrong(&format!("a subscription that nobody has sent: {error}"));
                wire::Subscription::default()
            });
            let owned = subscription.owned.into_iter().flat_map(|topic| topic.partitions).collect();
            had.insert(&member.member_id, (subscription.generation, owned));
        }
        let shares = if self.is_incremental { cooperative(&had, self.seen) } else { ranges(&had, self.seen) };
        self.reader.note(format_args!("assigns {shares:?} in {}", joined.generation));
        let assignments = shares.into_iter().map(|(member, partitions)| {
            let assignment = wire::Assignment { partitions: self.listed(&partitions), user_data: None };
            (member.to_owned(), assignment.encode(3).expect("it is short"))
        });
        assignments.collect()
    }
}

type Shares<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

fn ranges<'a>(members: &BTreeMap<&'a str, (i32, BTreeSet<i32>)>, count: i32) -> Shares<'a> {
    let each = members.len() as i32;
    let share = |at: i32| (at * count / each..(at + 1) * count / each).collect();
    members.keys().zip(0..).map(|(member, at)| (*member, share(at))).collect()
}

/// As many for each as is fair, kept where they are; what moves is given to nobody until its owner has given it back.
fn cooperative<'a>(members: &BTreeMap<&'a str, (i32, BTreeSet<i32>)>, count: i32) -> Shares<'a> {
    // What somebody says it has from an older generation may be another's by now.
    let newest = members.values().map(|(generation, _)| *generation).max().unwrap_or(-1);
    let mut owners: BTreeMap<i32, &str> = BTreeMap::new();
    for (member, (generation, owned)) in members {
        if *generation == newest {
            owners.extend(owned.iter().map(|partition| (*partition, *member)));
        }
    }
    let most = (count as usize).div_ceil(members.len().max(1));
    let mut shares: Shares<'a> = members.keys().map(|member| (*member, BTreeSet::new())).collect();
    let mut free = Vec::new();
    for partition in 0..count {
        let kept = owners.get(&partition).and_then(|owner| shares.get_mut(*owner)).filter(|share| share.len() < most);
        match kept {
            Some(share) => drop(share.insert(partition)),
            None => free.push(partition),
        }
    }
    for partition in free {
        let least = shares.iter_mut().min_by_key(|(member, share)| (share.len(), **member));
        if let Some((_, share)) = least {
            share.insert(partition);
        }
    }
    for (member, share) in &mut shares {
        share.retain(|partition| owners.get(partition).is_none_or(|owner| owner == member));
    }
    shares
}
