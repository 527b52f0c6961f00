//! Answers every other service for the coordinator of this process.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tidemark_model::coordinator::{OpenJournal, TopicRef};
use tidemark_model::{ClusterUpdate, Coordinator, CoordinatorError, GroupCoordinator, NodeId, Record, Registration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::convert::coordinator::role;
use crate::convert::{all, each, required};
use crate::group;
use crate::limits::{COALESCED_BYTES, MAX_MESSAGE};
use crate::proto as wire;
use crate::proto::coordinator_server::{Coordinator as WireCoordinator, CoordinatorServer};
use crate::transport::{self, ServeError};

/// Serves until `shutdown`, then finishes what is under way. The streams of those who joined end at once: they go on
/// to another coordinator.
pub async fn serve_coordinator(
    listener: TcpListener,
    coordinator: Arc<dyn Coordinator>,
    groups: Arc<dyn GroupCoordinator>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Server { coordinator, shutdown: shutdown.clone() };
    let groups = group::server(groups, shutdown.clone());
    let service =
        CoordinatorServer::new(server).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    transport::serve(listener, Routes::new(service).add_service(groups), shutdown).await
}

struct Server {
    coordinator: Arc<dyn Coordinator>,
    shutdown: CancellationToken,
}

#[tonic::async_trait]
impl WireCoordinator for Server {
    type JoinStream = BoxStream<'static, Result<wire::ClusterUpdate, Status>>;

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let (registration, resume) = <(Registration, Option<u64>)>::try_from(request.into_inner())?;
        let updates = self.coordinator.join(registration, resume);
        let messages = updates.flat_map(|update| stream::iter(bounded(update))).map(Ok);
        Ok(Response::new(messages.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        let wire::LeaveRequest { role: number, node, incarnation } = request.into_inner();
        let left = self.coordinator.leave(role(number)?, NodeId(node), incarnation).await;
        Ok(Response::new(wire::LeaveResponse { error: left.err().map(Into::into) }))
    }

    async fn open_journal(
        &self,
        request: Request<wire::OpenJournalRequest>,
    ) -> Result<Response<wire::OpenJournalResponse>, Status> {
        let wire::OpenJournalRequest { node, wal_incarnation, logs, succeeds } = request.into_inner();
        let open = OpenJournal { node: NodeId(node), wal_incarnation, logs, succeeds };
        Ok(Response::new(self.coordinator.open_journal(open).await.into()))
    }

    async fn create_topics(
        &self,
        request: Request<wire::CreateTopicsRequest>,
    ) -> Result<Response<wire::ChangedTopics>, Status> {
        let wire::CreateTopicsRequest { topics, validate_only } = request.into_inner();
        let changed = self.coordinator.create_topics(each(topics)?, validate_only).await;
        Ok(Response::new(wire::ChangedTopics { topics: all(changed) }))
    }

    async fn delete_topics(
        &self,
        request: Request<wire::DeleteTopicsRequest>,
    ) -> Result<Response<wire::ChangedTopics>, Status> {
        let changed = self.coordinator.delete_topics(each(request.into_inner().topics)?).await;
        Ok(Response::new(wire::ChangedTopics { topics: all(changed) }))
    }

    async fn create_partitions(
        &self,
        request: Request<wire::CreatePartitionsRequest>,
    ) -> Result<Response<wire::ChangedTopic>, Status> {
        let wire::CreatePartitionsRequest { topic, total, validate_only } = request.into_inner();
        let topic: TopicRef = required(topic, "topic")?;
        Ok(Response::new(self.coordinator.create_partitions(topic, total, validate_only).await.into()))
    }

    async fn alter_topic_configs(
        &self,
        request: Request<wire::AlterTopicConfigsRequest>,
    ) -> Result<Response<wire::ChangedTopic>, Status> {
        let wire::AlterTopicConfigsRequest { topic, changes, validate_only } = request.into_inner();
        let topic: TopicRef = required(topic, "topic")?;
        Ok(Response::new(self.coordinator.alter_topic_configs(topic, each(changes)?, validate_only).await.into()))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<wire::AllocateProducerIdsRequest>,
    ) -> Result<Response<wire::AllocateProducerIdsResponse>, Status> {
        let wire::AllocateProducerIdsRequest { count } = request.into_inner();
        Ok(Response::new(self.coordinator.allocate_producer_ids(count).await.into()))
    }
}

/// An update as messages of a bounded size: a snapshot's chunks may be cut smaller, other updates are one message.
fn bounded(update: Result<ClusterUpdate, CoordinatorError>) -> Vec<wire::ClusterUpdate> {
    let Ok(ClusterUpdate::Snapshot { revision, records, last }) = update else { return vec![update.into()] };
    let mut messages = Vec::new();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    let message = |records, last| {
        let snapshot = wire::cluster_update::Snapshot { revision, records, last };
        wire::ClusterUpdate { update: Some(wire::cluster_update::Update::Snapshot(snapshot)) }
    };
    for record in records {
        let record: wire::Record = Record::into(record);
        let size = record.encoded_len();
        if bytes + size > COALESCED_BYTES && !chunk.is_empty() {
            messages.push(message(std::mem::take(&mut chunk), false));
            bytes = 0;
        }
        bytes += size;
        chunk.push(record);
    }
    messages.push(message(chunk, last));
    messages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidemark_model::{Topic, TopicId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_large_snapshot_is_cut_into_bounded_messages_and_closed_once() {
        let topic = |n: usize| Topic {
            id: TopicId(Uuid::from_u128(n as u128)),
            name: "t".repeat(200_000),
            replication_factor: 1,
            partitions: vec![],
            configs: BTreeMap::new(),
        };
        let records: Vec<Record> = (0..20).map(topic).map(Record::Topic).collect();
        let snapshot = ClusterUpdate::Snapshot { revision: 3, records: records.clone(), last: true };
        let messages = bounded(Ok(snapshot));
        assert!(messages.len() > 2 && messages.iter().all(|m| m.encoded_len() < 2 * COALESCED_BYTES));
        let mut seen = Vec::new();
        let count = messages.len();
        for (n, message) in messages.into_iter().enumerate() {
            match Result::try_from(message).unwrap() {
                Ok(ClusterUpdate::Snapshot { revision: 3, records, last }) => {
                    assert_eq!(last, n == count - 1);
                    seen.extend(records);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, records);
    }
}
