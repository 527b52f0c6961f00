//! Admission: whether a batch may be appended, and where it goes. Everything here is undone when the append fails.

use tidemark_model::storage::{Append, AppendRequest, Appended};
use tidemark_model::topic_config::{TimestampType, effective};
use tidemark_model::{StorageError, TopicPartition};
use tokio::sync::oneshot;

use super::core::{Ahead, Answers, AppendResults, Core, Phase, Reply, Slot, Waiter};
use crate::entry::{BatchEntry, Entry};
use crate::stamp::{is_stamped, stamped};
use crate::state::PartitionState;
use crate::state::producers::{Producer, Verdict};
use crate::state::{follow, may_follow};
use crate::wal::format::{ENTRY_HEADER_LEN, MAX_ENTRY_LEN};

/// How much of the size of the node's write-ahead logs is used, and may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalSpace {
    pub(crate) used: u64,
    pub(crate) limit: u64,
    /// Bytes that this journal may have named and not committed.
    pub(crate) ahead_limit: u64,
}

impl Core {
    /// Takes a request in. Whether there is now something to write.
    pub(super) fn admit(
        &mut self,
        request: AppendRequest,
        reply: oneshot::Sender<AppendResults>,
        space: WalSpace,
        answers: &mut Answers,
    ) -> bool {
        if let Err(error) = self.check_room(&request, space) {
            answers.add(Reply::Append(reply, results_of(&request)), Some(error));
            return false;
        }
        let route = request.route;
        let before = self.next_index;
        let mut indexes = Vec::with_capacity(request.appends.len());
        let admitted = request.appends.into_iter().map(|append| {
            let result = self.admit_one(append, route);
            indexes.push(if result.is_ok() { self.next_index - 1 } else { 0 });
            result
        });
        let results: AppendResults = admitted.collect();
        let last = self.next_index - 1;
        if last == self.state.last.index {
            // Nothing is under way on which an answer could depend.
            answers.add(Reply::Append(reply, results), None);
        } else {
            self.waiters.push_back(Waiter { index: last, indexes, reply: Reply::Append(reply, results) });
        }
        self.next_index > before
    }

    pub(super) fn check_room(&self, request: &AppendRequest, space: WalSpace) -> Result<(), StorageError> {
        match &self.phase {
            Phase::Serving => {}
            Phase::Reopening(error) | Phase::Ended(error) => return Err(error.clone()),
        }
        let bytes = bytes_of(request);
        if self.ahead_bytes + bytes > space.ahead_limit {
            return Err(StorageError::Full(format!("{} bytes are being written", self.ahead_bytes)));
        }
        if space.used + self.ahead_bytes + bytes > space.limit {
            let WalSpace { used, limit, .. } = space;
            return Err(StorageError::Full(format!("the write-ahead logs have {used} of at most {limit} bytes")));
        }
        Ok(())
    }

    fn admit_one(&mut self, append: Append, route: tidemark_model::route::Route) -> Result<Appended, StorageError> {
        let Append { partition: at, mut batch } = append;
        let leader_epoch = self.leader_epoch(at)?;
        if batch.wire_len() + ENTRY_HEADER_LEN + crate::entry::ROUTE_LEN > MAX_ENTRY_LEN
            || batch.last_offset_delta() < 0
        {
            return Err(StorageError::Corrupt(format!("a batch of {} bytes cannot be stored", batch.wire_len())));
        }
        if self.stamps(at) {
            batch = stamped(&batch, self.clock.now_ms());
        }
        let committed = self.state.partitions.get(&at);
        let slot = self.slots.entry(at).or_default();
        let last_route = slot.ahead.as_ref().map(|ahead| ahead.route).or(committed.map(|state| state.route));
        if last_route.is_some_and(|last| !may_follow(last, route)) {
            let why = format!("an append to {at} came by a way that is no longer the way");
            return Err(StorageError::NotLeader(why));
        }
        let log_start_offset = committed.map_or(0, |state| state.log_start);
        let producer_id = batch.producer_id();
        if producer_id >= 0 {
            let known = slot.known_producer(committed, producer_id);
            if let Verdict::Duplicate(original) = Producer::check(known, &batch)? {
                let log_append_time_ms = if is_stamped(&batch) { original.timestamp } else { -1 };
                return Ok(Appended { base_offset: original.base_offset(), log_append_time_ms, log_start_offset });
            }
        }
        let is_new = committed.is_none() && slot.ahead.is_none();
        let ahead = slot.ahead.get_or_insert_with(|| Ahead::of(committed));
        batch.base_offset = ahead.next_offset;
        batch.leader_epoch = leader_epoch;
        ahead.next_offset = batch.next_offset();
        ahead.route = follow(ahead.route, route);
        if producer_id >= 0 {
            let known = || committed.and_then(|state| state.producers.get(&producer_id)).cloned().unwrap_or_default();
            ahead.producers.entry(producer_id).or_insert_with(known).append(&batch);
        }
        ahead.entries += if is_new { 2 } else { 1 };

        let base_offset = batch.base_offset;
        let log_append_time_ms = if is_stamped(&batch) { batch.max_timestamp() } else { -1 };
        if is_new {
            self.name(Entry::PartitionCreated { partition: at, revision: self.view.revision });
        }
        self.name(Entry::Batch(BatchEntry { partition: at, route, batch }));
        Ok(Appended { base_offset, log_append_time_ms, log_start_offset })
    }

    /// Whether the topic wants the time of the append in its records.
    fn stamps(&self, at: TopicPartition) -> bool {
        let topic = self.view.topic(at.topic);
        topic.is_some_and(|topic| effective(&topic.configs).message_timestamp_type() == TimestampType::LogAppendTime)
    }
}

impl Slot {
    fn known_producer<'a>(&'a self, committed: Option<&'a PartitionState>, id: i64) -> Option<&'a Producer> {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.producers.get(&id));
        ahead.or_else(|| committed?.producers.get(&id))
    }
}

impl Slot {
    /// One of the entries ahead is committed. Without any, the state says all.
    pub(super) fn committed_one(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.entries -= 1;
            if ahead.entries == 0 {
                self.ahead = None;
            }
        }
    }
}

impl Ahead {
    fn of(committed: Option<&PartitionState>) -> Box<Self> {
        let new = PartitionState::new(0);
        let state = committed.unwrap_or(&new);
        let (next_offset, route) = (state.high_watermark, state.route);
        Box::new(Self { next_offset, route, producers: Default::default(), entries: 0 })
    }
}

pub(super) fn bytes_of(request: &AppendRequest) -> u64 {
    request.appends.iter().map(|append| append.batch.wire_len() as u64).sum()
}

pub(super) fn results_of(request: &AppendRequest) -> AppendResults {
    let error = StorageError::Unavailable("not tried".into());
    vec![Err(error); request.appends.len()]
}
