//! A coordinator that opens journals: in a higher epoch each time, for the node whose log it knows, and as unreliable as
//! a network makes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::{
    ClusterUpdate, Coordinator, CoordinatorError, Journal, JournalId, NodeId, Registration, Replica, Role,
};
use tidemark_segment::testing::sim::{Chance, Trace};

use crate::world::Pulse;

/// The records that outlive everybody.
#[derive(Debug)]
pub struct Records {
    journals: Mutex<BTreeMap<JournalId, Record>>,
    pub chance: Chance,
    pub trace: Trace,
    /// One call in so many fails; none where 0.
    pub fails_one_in: Mutex<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    epoch: u32,
    node: NodeId,
    incarnation: u64,
}

/// The coordinator as one life of a node has it.
#[derive(Debug)]
pub struct Connected {
    pub records: Arc<Records>,
    pub pulse: Pulse,
}

impl Records {
    pub fn new(chance: Chance, trace: Trace) -> Self {
        Self { journals: Mutex::default(), chance, trace, fails_one_in: Mutex::new(0) }
    }

    pub fn set_fails(&self, one_in: u64) {
        *self.fails_one_in.lock().unwrap_or_else(PoisonError::into_inner) = one_in;
    }

    fn fails(&self) -> bool {
        let one_in = *self.fails_one_in.lock().unwrap_or_else(PoisonError::into_inner);
        self.chance.one_in(one_in)
    }

    fn open(&self, open: &OpenJournal) -> Result<Journal, CoordinatorError> {
        let (node, incarnation, succeeds) = (open.node, open.wal_incarnation, open.succeeds);
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let known = journals.iter().find(|(_, record)| {
            record.node == node && (record.incarnation == incarnation || succeeds == Some(record.incarnation))
        });
        let id = match known {
            Some((id, _)) => *id,
            // A log that nobody knows is another one: what the first had would be lost.
            None if !journals.is_empty() => {
                return Err(CoordinatorError::Fenced(format!("nobody knows the log {incarnation:016x}")));
            }
            None => crate::world::JOURNAL,
        };
        let record = journals.entry(id).or_insert(Record { epoch: 0, node, incarnation });
        (record.epoch, record.incarnation) = (record.epoch + 1, incarnation);
        self.trace.note(format_args!("coordinator: journal {id} in epoch {}", record.epoch));
        let replica = Replica { node, incarnation };
        Ok(Journal { id, epoch: record.epoch, leader: node, replicas: vec![replica], isr: vec![replica] })
    }
}

#[async_trait]
impl Coordinator for Connected {
    fn join(&self, _: Registration, _: Option<u64>) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        stream::empty().boxed()
    }

    async fn leave(&self, _: Role, _: NodeId, _: u64) -> Result<(), CoordinatorError> {
        Ok(())
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        if self.pulse.is_dead() {
            return std::future::pending().await;
        }
        let lost = || Err(CoordinatorError::Unavailable("injected".into()));
        tokio::time::sleep(self.records.chance.up_to(Duration::from_millis(20))).await;
        if self.records.fails() {
            return lost();
        }
        let opened = self.records.open(&open);
        tokio::time::sleep(self.records.chance.up_to(Duration::from_millis(20))).await;
        // The answer is lost: the epoch is taken all the same.
        if self.records.fails() { lost() } else { opened }
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: bool) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn create_partitions(&self, _: TopicRef, _: i32, _: bool) -> Result<Changed, CoordinatorError> {
        not_here()
    }

    async fn alter_topic_configs(
        &self,
        _: TopicRef,
        _: Vec<ConfigChange>,
        _: bool,
    ) -> Result<Changed, CoordinatorError> {
        not_here()
    }

    async fn allocate_producer_ids(&self, _: u32) -> Result<Range<i64>, CoordinatorError> {
        not_here()
    }
}

fn not_here<T>() -> Result<T, CoordinatorError> {
    Err(CoordinatorError::Unavailable("not in this simulation".into()))
}
