//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords: only the journal's leader knows, so they are routed and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use tidemark_model::broker::{PartitionEpochQuery, PartitionOffsetQuery, PartitionRecordDeletion};
use tidemark_model::storage::{EpochEnd, EpochQuery, FoundOffset, OffsetQuery, RecordDeletion};
use tidemark_model::{BrokerError, NodeId, Storage, StorageError, TopicPartition};

use crate::locate::{Located, Locator};

/// The kinds of query differ in what is asked and found; how they travel is the same.
trait Query: Sized {
    type Routed: Send;
    type Found: Copy + Send;
    fn partition(&self) -> TopicPartition;
    fn revision(&self) -> u64;
    fn routed(self, located: &Located) -> Self::Routed;
    fn ask(
        storage: Arc<dyn Storage>,
        queries: Vec<Self::Routed>,
    ) -> BoxFuture<'static, Vec<Result<Self::Found, StorageError>>>;
}

impl Query for PartitionOffsetQuery {
    type Routed = OffsetQuery;
    type Found = FoundOffset;

    fn partition(&self) -> TopicPartition {
        self.partition
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn routed(self, located: &Located) -> OffsetQuery {
        let Self { partition, revision, current_leader_epoch, spec } = self;
        OffsetQuery { journal: located.journal, partition, revision, current_leader_epoch, spec }
    }

    fn ask(
        storage: Arc<dyn Storage>,
        queries: Vec<OffsetQuery>,
    ) -> BoxFuture<'static, Vec<Result<FoundOffset, StorageError>>> {
        Box::pin(async move { storage.list_offsets(queries).await })
    }
}

impl Query for PartitionEpochQuery {
    type Routed = EpochQuery;
    type Found = EpochEnd;

    fn partition(&self) -> TopicPartition {
        self.partition
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn routed(self, located: &Located) -> EpochQuery {
        let Self { partition, revision, current_leader_epoch, leader_epoch } = self;
        EpochQuery { journal: located.journal, partition, revision, current_leader_epoch, leader_epoch }
    }

    fn ask(
        storage: Arc<dyn Storage>,
        queries: Vec<EpochQuery>,
    ) -> BoxFuture<'static, Vec<Result<EpochEnd, StorageError>>> {
        Box::pin(async move { storage.epoch_ends(queries).await })
    }
}

impl Query for PartitionRecordDeletion {
    type Routed = RecordDeletion;
    type Found = i64;

    fn partition(&self) -> TopicPartition {
        self.partition
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn routed(self, located: &Located) -> RecordDeletion {
        let Self { partition, revision, before, timeout } = self;
        RecordDeletion { journal: located.journal, partition, revision, before, timeout }
    }

    fn ask(
        storage: Arc<dyn Storage>,
        deletions: Vec<RecordDeletion>,
    ) -> BoxFuture<'static, Vec<Result<i64, StorageError>>> {
        Box::pin(async move { storage.delete_records(deletions).await })
    }
}

pub(crate) async fn list_offsets(
    locator: &Locator,
    queries: Vec<PartitionOffsetQuery>,
) -> Vec<Result<FoundOffset, BrokerError>> {
    answer(locator, queries).await
}

pub(crate) async fn epoch_ends(
    locator: &Locator,
    queries: Vec<PartitionEpochQuery>,
) -> Vec<Result<EpochEnd, BrokerError>> {
    answer(locator, queries).await
}

pub(crate) async fn delete_records(
    locator: &Locator,
    deletions: Vec<PartitionRecordDeletion>,
) -> Vec<Result<i64, BrokerError>> {
    answer(locator, deletions).await
}

/// What one leader is asked, and where its answers belong.
struct Asked<Q: Query> {
    storage: Arc<dyn Storage>,
    places: Vec<usize>,
    queries: Vec<Q::Routed>,
}

/// Asks each leader once for all of its partitions and puts every answer in its query's place.
async fn answer<Q: Query>(locator: &Locator, queries: Vec<Q>) -> Vec<Result<Q::Found, BrokerError>> {
    let revision = queries.iter().map(Query::revision).max().unwrap_or(0);
    let state = locator.caught_up(revision).await;
    let mut found: Vec<Result<Q::Found, BrokerError>> = Vec::with_capacity(queries.len());
    let mut by_leader: BTreeMap<NodeId, Asked<Q>> = BTreeMap::new();
    for (place, query) in queries.into_iter().enumerate() {
        match locator.locate(&state, query.partition()) {
            Ok(located) => {
                let asked = by_leader.entry(located.leader).or_insert_with(|| Asked {
                    storage: located.storage.clone(),
                    places: Vec::new(),
                    queries: Vec::new(),
                });
                asked.places.push(place);
                asked.queries.push(query.routed(&located));
                // Stands only if the leader answers fewer queries than it was asked.
                found.push(Err(StorageError::Unavailable("no answer from the journal's leader".into()).into()));
            }
            Err(error) => found.push(Err(error)),
        }
    }
    let asked = by_leader
        .into_values()
        .map(|Asked { storage, places, queries }| async move { (places, Q::ask(storage, queries).await) });
    for (places, answers) in join_all(asked).await {
        for (place, answer) in places.into_iter().zip(answers) {
            found[place] = answer.map_err(Into::into);
        }
    }
    found
}
