//! A member of the protocol of KIP-848.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupAnswer, GroupRequest, TopicPartitions};
use tokio::time::Instant;

use crate::member::{Done, Identity, Leave, REBALANCE, RETRY, Reader, TICK};

/// It leaves, or will be back.
const LEAVES: i32 = -1;
const LEAVES_FOR_NOW: i32 = -2;

/// Before a static member tries again to join, whose instance id another one has.
const UNRELEASED: Duration = Duration::from_millis(500);

/// How long one that has much to do takes to give partitions back. It is heard all the while.
const BUSY: Duration = Duration::from_secs(4);

pub struct Consumer {
    reader: Reader,
    member_id: String,
    epoch: i32,
    interval: Duration,
    /// What the coordinator knows that it owns. None: it has to be told everything.
    told: Option<BTreeSet<i32>>,
    /// What it is assigned, and when it has come to give back what is not of that. It reads that until then.
    busy: Option<(Instant, BTreeSet<i32>)>,
}

impl Consumer {
    pub fn new(reader: Reader) -> Self {
        let member_id = format!("{}-{}", reader.name, reader.chance.below(u64::MAX));
        Self { reader, member_id, epoch: 0, interval: Duration::ZERO, told: None, busy: None }
    }

    /// Is a member until it is to leave.
    pub async fn run(mut self, leaving: impl Fn() -> Option<Leave>) {
        let mut beaten = Instant::now();
        let mut asks = true;
        loop {
            self.reader.work();
            if self.busy.as_ref().is_some_and(|(until, _)| *until <= Instant::now())
                && let Some((_, assigned)) = self.busy.take()
            {
                self.settle(assigned).await;
            }
            let identity = self.identity();
            if self.epoch > 0 {
                asks |= self.reader.look_up(&identity).await == Done::Ask;
                if !self.reader.chance.one_in(3) {
                    asks |= self.reader.commit(&identity, |_| true).await == Done::Ask;
                }
            }
            if let Some(how) = leaving() {
                return self.leave(how).await;
            }
            let has_news = self.told.as_ref() != Some(&self.reader.owned);
            if asks || has_news || beaten.elapsed() >= self.interval {
                beaten = Instant::now();
                asks = false;
                if !self.beat().await {
                    if self.reader.is_fenced {
                        return;
                    }
                    self.reader.sleep(RETRY).await;
                    continue;
                }
                if self.told.as_ref() != Some(&self.reader.owned) {
                    continue;
                }
            }
            self.reader.sleep(TICK.min(self.interval)).await;
        }
    }

    /// Returns whether it was answered.
    async fn beat(&mut self) -> bool {
        let since = Instant::now();
        let is_full = self.told.is_none() || self.epoch == 0;
        let tells = is_full || self.told.as_ref() != Some(&self.reader.owned);
        let owned = self.reader.owned.clone();
        let request = ConsumerHeartbeat {
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.reader.instance.clone(),
            rack: None,
            rebalance_timeout: is_full.then_some(REBALANCE),
            subscribed_topics: is_full.then(|| vec![self.reader.group.name.to_string()]),
            subscribed_regex: None,
            server_assignor: None,
            owned: tells.then(|| self.listed(&owned)),
            client_makes_id: true,
        };
        match self.reader.ask(GroupRequest::ConsumerHeartbeat(request)).await {
            Ok(GroupAnswer::ConsumerHeartbeat(answer)) => {
                self.told = Some(owned);
                if self.epoch > 0 {
                    self.reader.is_well(since);
                }
                self.take(answer).await;
                true
            }
            Ok(other) => {
                self.reader.nonsense(&other);
                false
            }
            Err(error) => {
                self.failed(error).await;
                false
            }
        }
    }

    /// Gives back what is not its own any more, and then takes what is new.
    async fn take(&mut self, answer: ConsumerHeartbeatAnswer) {
        self.interval = answer.heartbeat_interval;
        let before = std::mem::replace(&mut self.epoch, answer.member_epoch);
        let Some(assignment) = answer.assignment else {
            if before != self.epoch {
                self.reader.owns(self.epoch, self.reader.owned.clone());
            }
            return;
        };
        let assigned: BTreeSet<i32> = assignment.into_iter().flat_map(|topic| topic.partitions).collect();
        self.busy = None;
        if !self.reader.owned.is_subset(&assigned) && self.reader.chance.one_in(3) {
            self.reader.group.trace.count("members that took their time to give partitions back");
            self.busy = Some((Instant::now() + self.reader.chance.up_to(BUSY), assigned));
            return;
        }
        self.settle(assigned).await;
    }

    async fn settle(&mut self, assigned: BTreeSet<i32>) {
        let revoked: BTreeSet<i32> = self.reader.owned.difference(&assigned).copied().collect();
        if !revoked.is_empty() {
            let identity = self.identity();
            self.reader.commit(&identity, |partition| revoked.contains(&partition)).await;
            self.reader.gives_back(&revoked);
        }
        self.reader.owns(self.epoch, assigned);
    }

    async fn leave(&mut self, how: Leave) {
        if self.epoch <= 0 {
            return;
        }
        let identity = self.identity();
        self.reader.commit(&identity, |_| true).await;
        self.reader.stops();
        self.reader.note(format_args!("leaves {how:?}"));
        let for_now = how == Leave::ForNow && self.reader.instance.is_some();
        let request = ConsumerHeartbeat {
            member_id: self.member_id.clone(),
            member_epoch: if for_now { LEAVES_FOR_NOW } else { LEAVES },
            instance_id: self.reader.instance.clone(),
            rack: None,
            rebalance_timeout: None,
            subscribed_topics: None,
            subscribed_regex: None,
            server_assignor: None,
            owned: None,
            client_makes_id: true,
        };
        // Once: who is not heard is missed by the group.
        let _ = self.reader.ask(GroupRequest::ConsumerHeartbeat(request)).await;
    }

    async fn failed(&mut self, error: GroupError) {
        self.reader.note(format_args!("a heartbeat fails: {error}"));
        self.told = None;
        match error {
            GroupError::FencedMemberEpoch(_) | GroupError::UnknownMemberId(_) | GroupError::GroupIdNotFound(_) => {
                (self.epoch, self.busy) = (0, None);
                self.reader.loses(&error);
            }
            GroupError::FencedInstanceId => self.reader.fenced(),
            // Until the other one's session is over.
            GroupError::UnreleasedInstanceId(_) if self.epoch == 0 => {
                self.reader.group.trace.count("static members that waited for their instance id");
                self.reader.sleep(UNRELEASED).await;
            }
            GroupError::NotCoordinator
            | GroupError::LoadInProgress
            | GroupError::Unavailable(_)
            | GroupError::TimedOut(_) => {}
            other => self.reader.group.wrong(&format!("{} has a heartbeat refused: {other:?}", self.reader.name)),
        }
    }

    fn identity(&self) -> Identity {
        Identity { member_id: self.member_id.clone(), at: self.epoch, is_consumer: true }
    }

    fn listed(&self, partitions: &BTreeSet<i32>) -> Vec<TopicPartitions> {
        if partitions.is_empty() {
            return Vec::new();
        }
        vec![TopicPartitions { topic: self.reader.topic, partitions: partitions.iter().copied().collect() }]
    }
}
