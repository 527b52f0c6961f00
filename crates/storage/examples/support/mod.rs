//! What the measurements run on: a cluster of one node, without a coordinator.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::{
    Batch, ClusterState, ClusterUpdate, Coordinator, CoordinatorError, Journal, JournalId, NodeId, Partition, Record,
    Registration, Role, Topic, TopicId,
};
use uuid::Uuid;

pub(crate) const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

/// Gives each log its journal, in a new epoch each time.
#[derive(Debug, Default)]
pub(crate) struct OneNode(Mutex<Vec<(u64, u32)>>);

pub(crate) fn journal_of(partition: u32, journals: u32) -> JournalId {
    JournalId(1 + partition % journals)
}

pub(crate) fn batch(len: usize, fill: u8) -> Batch {
    let mut wire = BytesMut::with_capacity(len);
    wire.put_i64(0);
    wire.put_i32(len as i32 - 12);
    wire.put_i32(0);
    wire.put_u8(2);
    wire.put_u32(0);
    wire.put_i16(0);
    wire.put_i32(9);
    wire.put_i64(1);
    wire.put_i64(1);
    wire.put_i64(-1);
    wire.put_i16(-1);
    wire.put_i32(-1);
    wire.put_i32(10);
    wire.put_bytes(fill, len - wire.len());
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut wire: Bytes = wire.freeze();
    Batch::split_from(&mut wire).expect("a batch")
}

/// A topic whose partitions are spread over the journals.
pub(crate) fn cluster(partitions: u32, journals: u32) -> ClusterState {
    let mut state = ClusterState::new("bench".into());
    state.upsert(Record::Topic(Topic {
        id: TOPIC,
        name: "bench".into(),
        replication_factor: 1,
        partitions: (0..partitions)
            .map(|partition| Partition { journal: journal_of(partition, journals), epoch_base: 0 })
            .collect(),
        configs: BTreeMap::new(),
    }));
    state.revision = 1;
    state
}

/// User and system time of this process.
pub(crate) fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

pub(crate) fn rss_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1e3)
}

#[async_trait]
impl Coordinator for OneNode {
    fn join(&self, _: Registration, _: Option<u64>) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        stream::empty().boxed()
    }

    async fn leave(&self, _: Role, _: NodeId, _: u64) -> Result<(), CoordinatorError> {
        Ok(())
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(log, _)| *log == open.wal_incarnation).unwrap_or(known.len());
        if at == known.len() {
            known.push((open.wal_incarnation, 0));
        }
        known[at].1 += 1;
        let (id, epoch) = (JournalId(at as u32 + 1), known[at].1);
        Ok(Journal { id, epoch, leader: open.node, replicas: Vec::new(), isr: Vec::new() })
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: bool) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn create_partitions(&self, _: TopicRef, _: i32, _: bool) -> Result<Changed, CoordinatorError> {
        Err(unused())
    }

    async fn alter_topic_configs(
        &self,
        _: TopicRef,
        _: Vec<ConfigChange>,
        _: bool,
    ) -> Result<Changed, CoordinatorError> {
        Err(unused())
    }

    async fn allocate_producer_ids(&self, _: u32) -> Result<Range<i64>, CoordinatorError> {
        Err(unused())
    }
}

fn unused() -> CoordinatorError {
    CoordinatorError::Unavailable("not part of this measurement".into())
}
