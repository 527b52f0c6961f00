//! One file for each API. Here a request finds its own.

mod api_versions;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod control;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
pub(crate) mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
pub(crate) mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_wire::api::{self, ApiKey};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::fetch::FetchRequest;
use tidemark_wire::frame::{RequestHeader, ResponseFrame};
use tidemark_wire::messages::{KafkaResponse, StrBytes, encode_response};
use tidemark_wire::produce::ProduceRequest;
use tidemark_wire::request::Request;
use tidemark_wire::{DecodeError, EncodeError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::admission::Grant;
use crate::connection::{Answer, Ended, Order, Turn};
use crate::metrics;
use crate::service::Gateway;
use waiting::Waiting;

/// Decoded, a request may take a hundred times its bytes. Of those over this many, where that matters, the process
/// handles one at a time. Produce and Fetch do not grow.
const LARGE_REQUEST: usize = 256 << 10;

/// One request, for its handler.
#[derive(Clone)]
pub(crate) struct Call {
    gateway: Arc<Gateway>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: StrBytes,
    /// When its turn came.
    began: Instant,
    peer: SocketAddr,
}

/// What a request may overlap with, beside others of its connection.
pub(crate) fn order(api: ApiKey, bytes: usize) -> Order {
    match api {
        ApiKey::Produce => Order::Append,
        ApiKey::Fetch => Order::LargeRead,
        _ if bytes > LARGE_REQUEST => Order::Change,
        // Metadata may create topics, and nobody is harmed by two at once that do.
        ApiKey::ApiVersions
        | ApiKey::Metadata
        | ApiKey::ListOffsets
        | ApiKey::FindCoordinator
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions
        // Of groups, what changes nothing that another would see. A heartbeat only says that its member is alive.
        | ApiKey::OffsetFetch
        | ApiKey::Heartbeat
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::ConsumerGroupDescribe => Order::Read,
        _ => Order::Change,
    }
}

/// Begins a request: what is returned is its answer to come. An append has its place in the order when this returns;
/// anything else begins, and is decoded, at its turn. A request that may wait for minutes takes `grant` with it, to give it
/// up before its answer.
pub(crate) fn dispatch(
    gateway: &Arc<Gateway>,
    header: RequestHeader,
    body: Bytes,
    grant: &mut Grant,
    turn: Turn,
    peer: SocketAddr,
) -> Result<BoxFuture<'static, Answer>, Ended> {
    let RequestHeader { api_key: api, api_version: version, correlation_id, client_id } = header;
    let client_id = client_id.unwrap_or_default();
    let mut call =
        Call { gateway: Arc::clone(gateway), api, version, correlation_id, client_id, began: Instant::now(), peer };
    if !api::speaks(api, version) {
        return match api {
            ApiKey::ApiVersions => Ok(std::future::ready(api_versions::unsupported(call)).boxed()),
            _ => Err(Ended::UnsupportedVersion { api, version }),
        };
    }
    let span = tracing::debug_span!("kafka.request", api = api.name(), version, client_id = call.client_id.as_str());
    let answer = match api {
        ApiKey::Produce => {
            let request = call.decoded(ProduceRequest::decode(body, version))?;
            // Not a future yet: the append is issued here, in the order of the requests.
            span.in_scope(|| produce::handle(call, request))
        }
        ApiKey::Fetch => async move {
            let at_the_tail = Arc::clone(&turn.at_the_tail);
            turn.come().await;
            let request = call.decoded(FetchRequest::decode(body, version))?;
            fetch::handle(call, request, &at_the_tail).await
        }
        .boxed(),
        ApiKey::JoinGroup | ApiKey::SyncGroup => {
            let grant = std::mem::take(grant);
            async move {
                turn.come().await;
                call.began = Instant::now();
                let waiting = Waiting { bytes: body.len(), grant, alone: call.alone(body.len()).await };
                match call.decoded(Request::decode(api, version, body))? {
                    Request::JoinGroup(request) => join_group::handle(call, request, waiting).await,
                    Request::SyncGroup(request) => sync_group::handle(call, request, waiting).await,
                    request => handle(call, request).await,
                }
            }
            .boxed()
        }
        _ => async move {
            turn.come().await;
            call.began = Instant::now();
            let _alone = call.alone(body.len()).await;
            let request = call.decoded(Request::decode(api, version, body))?;
            handle(call, request).await
        }
        .boxed(),
    };
    Ok(if span.is_disabled() { answer } else { answer.instrument(span).boxed() })
}

async fn handle(call: Call, request: Request) -> Answer {
    match request {
        Request::Produce(request) => produce::handle(call, request).await,
        Request::Fetch(request) => fetch::handle(call, request, &AtomicBool::new(false)).await,
        Request::ListOffsets(request) => list_offsets::handle(call, request).await,
        Request::Metadata(request) => metadata::handle(call, request).await,
        Request::OffsetCommit(request) => offset_commit::handle(call, request).await,
        Request::OffsetFetch(request) => offset_fetch::handle(call, request).await,
        Request::FindCoordinator(request) => find_coordinator::handle(&call, &request),
        Request::JoinGroup(request) => join_group::handle(call, request, Waiting::default()).await,
        Request::SyncGroup(request) => sync_group::handle(call, request, Waiting::default()).await,
        Request::Heartbeat(request) => heartbeat::handle(call, request).await,
        Request::LeaveGroup(request) => leave_group::handle(call, request).await,
        Request::DescribeGroups(request) => describe_groups::handle(call, request).await,
        Request::ListGroups(request) => list_groups::handle(call, request).await,
        Request::ApiVersions(request) => api_versions::handle(&call, &request),
        Request::CreateTopics(request) => create_topics::handle(call, request).await,
        Request::DeleteRecords(request) => delete_records::handle(call, request).await,
        Request::DeleteTopics(request) => delete_topics::handle(call, request).await,
        Request::InitProducerId(request) => init_producer_id::handle(call, request).await,
        Request::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::handle(call, request).await,
        Request::DescribeConfigs(request) => describe_configs::handle(call, request).await,
        Request::CreatePartitions(request) => create_partitions::handle(call, request).await,
        Request::DeleteGroups(request) => delete_groups::handle(call, request).await,
        Request::IncrementalAlterConfigs(request) => incremental_alter_configs::handle(call, request).await,
        Request::OffsetDelete(request) => offset_delete::handle(call, request).await,
        Request::DescribeCluster(request) => describe_cluster::handle(&call, &request),
        Request::ConsumerGroupHeartbeat(request) => consumer_group_heartbeat::handle(call, request).await,
        Request::ConsumerGroupDescribe(request) => consumer_group_describe::handle(call, request).await,
        Request::DescribeTopicPartitions(request) => describe_topic_partitions::handle(&call, &request),
    }
}

impl Call {
    /// Waits for the permit that a request of this many bytes needs.
    async fn alone(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        match bytes > LARGE_REQUEST {
            true => self.gateway.large_requests.clone().acquire_owned().await.ok(),
            false => None,
        }
    }

    /// The answer, encoded in the request's version.
    fn reply<T: KafkaResponse>(&self, response: &T) -> Answer {
        self.encoded(encode_response(self.correlation_id, self.version, response))
    }

    fn decoded<T>(&self, request: Result<T, DecodeError>) -> Result<T, Ended> {
        request.map_err(|error| Ended::Malformed { api: self.api, version: self.version, reason: error.to_string() })
    }

    fn encoded(&self, frame: Result<ResponseFrame, EncodeError>) -> Answer {
        frame.map(Some).map_err(|error| Ended::Unencodable {
            api: self.api,
            version: self.version,
            reason: error.to_string(),
        })
    }

    /// Counts an error that the client is told, and gives its number.
    fn failed(&self, error: ErrorCode) -> i16 {
        if error.is_error() {
            metrics::error_answered(self.api, error);
        }
        error.code()
    }
}
