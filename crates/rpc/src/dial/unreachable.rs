//! A peer that registered an address which is none: every call says so.

use async_trait::async_trait;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::broker::{
    FetchRequest, Fetched, PartitionEpochQuery, PartitionOffsetQuery, PartitionRecordDeletion, ProduceRequest,
};
use tidemark_model::group::{GroupAnswer, GroupCall, ListedGroup};
use tidemark_model::storage::{
    AppendRequest, Appended, EpochEnd, EpochQuery, FoundOffset, OffsetQuery, Read, ReadRequest, RecordDeletion,
    TailCommand, TailEvent,
};
use tidemark_model::{Broker, BrokerError, GroupCoordinator, GroupError, Storage, StorageError};

use crate::convert::spread;
use crate::status::Failure;
use crate::transport::AddressError;

pub(super) struct Unreachable(Failure);

impl Unreachable {
    pub(super) fn new(error: AddressError) -> Self {
        Self(Failure::NeverSent(error.to_string()))
    }

    fn every<A, E: From<Failure>>(&self, count: usize) -> Vec<Result<A, E>> {
        spread(count, Err(self.0.clone()))
    }
}

#[async_trait]
impl Broker for Unreachable {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        future::ready(self.every(request.partitions.len())).boxed()
    }

    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        self.every(request.partitions.len())
    }

    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        self.every(queries.len())
    }

    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        self.every(queries.len())
    }

    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        self.every(deletions.len())
    }
}

#[async_trait]
impl Storage for Unreachable {
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>> {
        future::ready(self.every(request.appends.len())).boxed()
    }

    async fn read(&self, _request: ReadRequest) -> Result<Read, StorageError> {
        Err(self.0.clone().into())
    }

    async fn list_offsets(&self, queries: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>> {
        self.every(queries.len())
    }

    async fn epoch_ends(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>> {
        self.every(queries.len())
    }

    async fn delete_records(&self, deletions: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>> {
        self.every(deletions.len())
    }

    fn tail(&self, _commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>> {
        stream::iter([Err(self.0.clone().into())]).boxed()
    }
}

#[async_trait]
impl GroupCoordinator for Unreachable {
    fn call(&self, _call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        future::ready(Err(self.0.clone().into())).boxed()
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        Err(self.0.clone().into())
    }
}
