//! What a log is: a plain model of each partition, made of what its clients were told. Everything they are told later has
//! to agree with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemark_model::storage::Bounds;
use tidemark_model::{Batch, TopicPartition};

use crate::batches::number;

/// All partitions.
#[derive(Debug, Default)]
pub struct Model {
    partitions: BTreeMap<TopicPartition, Log>,
    sent: u64,
    now_ms: i64,
}

/// One partition, as far as anybody knows it.
#[derive(Debug, Default)]
struct Log {
    sent: BTreeMap<u64, Sent>,
    /// Where batches are, by their base offset: their last offset and number. Nothing here ever changes again.
    known: BTreeMap<i64, (i64, u64)>,
    bounds: Floor,
    deleted: bool,
    /// The highest log start that anybody asked for.
    asked_for: i64,
    retention: Retention,
}

/// What may move a log start beside those who ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retention {
    #[default]
    Forever,
    /// Milliseconds after which records may go.
    Age(i64),
    /// What is beyond a size may go; how much that is, the model does not know.
    Size,
}

/// A batch that somebody sent.
#[derive(Debug)]
struct Sent {
    sender: u32,
    body: Bytes,
    max_timestamp: i64,
    /// The storage said that it did not append it.
    refused: bool,
    base_offset: Option<i64>,
}

/// Below this the bounds never are again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    pub log_start: i64,
    pub high_watermark: i64,
    pub leader_epoch: i32,
}

pub type Checked<T = ()> = Result<T, String>;

impl Model {
    /// The number of the next batch.
    pub fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// A sender is about to send a batch, after those it sent before.
    pub fn sends(&mut self, at: TopicPartition, sender: u32, batch: &Batch) {
        let body = batch.body().clone();
        let number = number(&body).expect("senders send what has a number");
        let sent = Sent { sender, body, max_timestamp: batch.max_timestamp(), refused: false, base_offset: None };
        self.log(at).sent.insert(number, sent);
    }

    /// The batch is at this offset.
    pub fn acknowledged(&mut self, at: TopicPartition, batch: &Batch, base_offset: i64) -> Checked {
        let number = number(batch.body()).ok_or("acknowledged what nobody sent")?;
        let log = self.log(at);
        log.is_at(at, number, base_offset, base_offset + i64::from(batch.last_offset_delta()))?;
        let end = base_offset + i64::from(batch.last_offset_delta()) + 1;
        log.bounds.high_watermark = log.bounds.high_watermark.max(end);
        Ok(())
    }

    /// The batch was not appended, and will not be sent again.
    pub fn refused(&mut self, at: TopicPartition, batch: &Batch) -> Checked {
        let number = number(batch.body()).ok_or("refused what nobody sent")?;
        let sent = self.log(at).sent.get_mut(&number).ok_or("refused what nobody sent")?;
        sent.refused = true;
        match sent.base_offset {
            Some(offset) => Err(format!("{at}: batch {number} was refused, and is at {offset}")),
            None => Ok(()),
        }
    }

    /// What the bounds of a partition are at least, to be asked before a request is made.
    pub fn floor(&self, at: TopicPartition) -> Floor {
        self.partitions.get(&at).map_or_else(Floor::default, |log| log.bounds)
    }

    /// An answer had these bounds, to a request that was made when the floor was this.
    pub fn bounds(&mut self, at: TopicPartition, floor: Floor, bounds: Bounds) -> Checked {
        let Bounds { leader_epoch, log_start_offset, high_watermark, last_stable_offset } = bounds;
        let log = self.log(at);
        for (what, is, was) in [
            ("high watermark", high_watermark, floor.high_watermark),
            ("log start", log_start_offset, floor.log_start),
            ("leader epoch", i64::from(leader_epoch), i64::from(floor.leader_epoch)),
        ] {
            if is < was {
                return Err(format!("{at}: the {what} went from {was} back to {is}"));
            }
        }
        if last_stable_offset != high_watermark || log_start_offset > high_watermark {
            return Err(format!("{at}: bounds contradict themselves: {bounds:?}"));
        }
        log.bounds.high_watermark = log.bounds.high_watermark.max(high_watermark);
        log.bounds.leader_epoch = log.bounds.leader_epoch.max(leader_epoch);
        self.log_start(at, log_start_offset)
    }

    /// The log starts here, or did when an answer was given.
    pub fn log_start(&mut self, at: TopicPartition, log_start: i64) -> Checked {
        let now_ms = self.now_ms;
        let log = self.log(at);
        let unasked = log.known.range(..log_start).filter(|(_, (last, _))| log.asked_for <= *last && *last < log_start);
        for (base, (last, number)) in unasked {
            let timestamp = log.sent[number].max_timestamp;
            let may_go = match log.retention {
                Retention::Forever => false,
                Retention::Age(ms) => timestamp + ms < now_ms,
                Retention::Size => true,
            };
            if !may_go {
                let why = format!("the log start {log_start} is past {base}..={last}, of {timestamp} at {now_ms}");
                return Err(format!("{at}: {why}, with {:?}", log.retention));
            }
        }
        log.bounds.log_start = log.bounds.log_start.max(log_start);
        log.bounds.high_watermark = log.bounds.high_watermark.max(log_start);
        Ok(())
    }

    /// The partition has records for so long.
    pub fn retains(&mut self, at: TopicPartition, retention: Retention) {
        self.log(at).retention = retention;
    }

    /// Somebody asks for a log start.
    pub fn asks_for_log_start(&mut self, at: TopicPartition, before: i64) {
        let log = self.log(at);
        log.asked_for = log.asked_for.max(before);
    }

    /// The time of day that those who decide by it have, or had.
    pub fn time_is(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// A reader was given these batches, when it asked for `offset`, or for what follows the one before it.
    pub fn read(&mut self, at: TopicPartition, offset: i64, batches: &[Batch]) -> Checked {
        let log = self.log(at);
        let mut next = offset;
        for (n, batch) in batches.iter().enumerate() {
            let holds = batch.base_offset <= next && next <= batch.last_offset();
            if (n == 0 && !holds) || (n > 0 && batch.base_offset != next) {
                let (from, to) = (batch.base_offset, batch.last_offset());
                return Err(format!("{at}: read {from}..={to} where {next} was next"));
            }
            next = batch.next_offset();
            log.found(at, batch)?;
        }
        Ok(())
    }

    /// A reader has read all there is, from what was the log start to the high watermark.
    pub fn read_all(&mut self, at: TopicPartition, from: i64, batches: &[Batch], bounds: Bounds) -> Checked<usize> {
        self.read(at, from, batches)?;
        let end = batches.last().map_or(from, Batch::next_offset);
        if end != bounds.high_watermark {
            return Err(format!("{at}: the log ends at {end}, and its high watermark is {}", bounds.high_watermark));
        }
        let log = self.log(at);
        let here: BTreeMap<i64, u64> =
            batches.iter().filter_map(|batch| Some((batch.base_offset, number(batch.body())?))).collect();
        for (base, (last, number)) in log.known.range(..) {
            if *last >= bounds.log_start_offset.max(from) && *last < end && here.get(base) != Some(number) {
                return Err(format!("{at}: batch {number} was at {base}, and is lost"));
            }
        }
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut epoch = i32::MIN;
        for batch in batches {
            let number = here[&batch.base_offset];
            let sender = log.sent[&number].sender;
            if newest.insert(sender, number).is_some_and(|before| before >= number) {
                return Err(format!("{at}: batch {number} comes after a later one of sender {sender}"));
            }
            if batch.leader_epoch < epoch {
                return Err(format!("{at}: the leader epoch goes down at {}", batch.base_offset));
            }
            epoch = batch.leader_epoch;
        }
        Ok(batches.len())
    }

    /// The topic is being deleted: from now on its partitions may be unknown.
    pub fn delete(&mut self, at: TopicPartition) {
        self.log(at).deleted = true;
    }

    pub fn is_deleted(&self, at: TopicPartition) -> bool {
        self.partitions.get(&at).is_some_and(|log| log.deleted)
    }

    fn log(&mut self, at: TopicPartition) -> &mut Log {
        self.partitions.entry(at).or_default()
    }
}

impl Log {
    /// A batch that was read is one that was sent, as it was sent.
    fn found(&mut self, at: TopicPartition, batch: &Batch) -> Checked {
        let (base, last) = (batch.base_offset, batch.last_offset());
        let number = number(batch.body()).ok_or_else(|| format!("{at}: at {base} is what nobody sent"))?;
        let sent = self.sent.get(&number).ok_or_else(|| format!("{at}: at {base} is what nobody sent"))?;
        if sent.body != batch.body() {
            return Err(format!("{at}: batch {number} at {base} has other bytes than were sent"));
        }
        if sent.refused {
            return Err(format!("{at}: batch {number} was refused, and is at {base}"));
        }
        self.is_at(at, number, base, last)
    }

    fn is_at(&mut self, at: TopicPartition, number: u64, base: i64, last: i64) -> Checked {
        let sent = self.sent.get_mut(&number).ok_or_else(|| format!("{at}: nobody sent batch {number}"))?;
        match sent.base_offset {
            Some(known) if known == base => return Ok(()),
            Some(known) => return Err(format!("{at}: batch {number} is at {known}, and at {base}")),
            None => sent.base_offset = Some(base),
        }
        let before = self.known.range(..=last).next_back();
        if let Some((other_base, (other_last, other))) = before.filter(|(_, (other_last, _))| *other_last >= base) {
            return Err(format!(
                "{at}: batch {number} is at {base}..={last}, where batch {other} is, at {other_base}..={other_last}"
            ));
        }
        self.known.insert(base, (last, number));
        Ok(())
    }
}
