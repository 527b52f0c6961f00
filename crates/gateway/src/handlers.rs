//! One file for each API. Here a request finds its own.

mod api_versions;
mod configs;
mod control;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod incremental_alter_configs;
pub(crate) mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_wire::EncodeError;
use tidemark_wire::api::{self, ApiKey};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::frame::{RequestHeader, ResponseFrame};
use tidemark_wire::messages::{KafkaResponse, encode_response};
use tidemark_wire::request::Request;
use tracing::Instrument as _;

use crate::connection::{Answer, Ended, Order, Turn};
use crate::metrics;
use crate::service::Gateway;

/// One request, for its handler.
#[derive(Clone)]
pub(crate) struct Call {
    gateway: Arc<Gateway>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    peer: SocketAddr,
}

/// What a request may overlap with, beside others of its connection.
pub(crate) fn order(api: ApiKey) -> Order {
    match api {
        ApiKey::Produce => Order::Append,
        ApiKey::Fetch => Order::LargeRead,
        // Metadata may create topics, and nobody is harmed by two at once that do.
        ApiKey::ApiVersions
        | ApiKey::Metadata
        | ApiKey::ListOffsets
        | ApiKey::FindCoordinator
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions => Order::Read,
        _ => Order::Change,
    }
}

/// Begins a request: what is returned is its answer to come. An append has its place in the order when this returns.
pub(crate) fn dispatch(
    gateway: &Arc<Gateway>,
    header: RequestHeader,
    body: Bytes,
    turn: Turn,
    peer: SocketAddr,
) -> Result<BoxFuture<'static, Answer>, Ended> {
    let RequestHeader { api_key: api, api_version: version, correlation_id, client_id } = header;
    let call = Call { gateway: Arc::clone(gateway), api, version, correlation_id, peer };
    if !api::speaks(api, version) {
        return match api {
            ApiKey::ApiVersions => Ok(std::future::ready(api_versions::unsupported(call)).boxed()),
            _ => Err(Ended::UnsupportedVersion { api, version }),
        };
    }
    let span = tracing::debug_span!(
        "kafka.request",
        api = api.name(),
        version,
        client_id = client_id.as_deref().unwrap_or("")
    );
    let request = Request::decode(api, version, body).map_err(|error| Ended::Malformed {
        api,
        version,
        reason: error.to_string(),
    })?;
    let answer = span.in_scope(|| match request {
        // Not a future yet: the append is issued here, in the order of the requests.
        Request::Produce(request) => produce::handle(call, request),
        Request::Fetch(request) => after(turn, fetch::handle(call, request)),
        Request::ListOffsets(request) => after(turn, list_offsets::handle(call, request)),
        Request::Metadata(request) => after(turn, metadata::handle(call, request)),
        Request::FindCoordinator(request) => after(turn, async move { find_coordinator::handle(&call, &request) }),
        Request::ApiVersions(request) => after(turn, async move { api_versions::handle(&call, &request) }),
        Request::CreateTopics(request) => after(turn, create_topics::handle(call, request)),
        Request::DeleteTopics(request) => after(turn, delete_topics::handle(call, request)),
        Request::InitProducerId(request) => after(turn, init_producer_id::handle(call, request)),
        Request::OffsetForLeaderEpoch(request) => after(turn, offset_for_leader_epoch::handle(call, request)),
        Request::DescribeConfigs(request) => after(turn, async move { describe_configs::handle(&call, &request) }),
        Request::CreatePartitions(request) => after(turn, create_partitions::handle(call, request)),
        Request::IncrementalAlterConfigs(request) => after(turn, incremental_alter_configs::handle(call, request)),
        Request::DescribeCluster(request) => after(turn, async move { describe_cluster::handle(&call, &request) }),
        Request::DescribeTopicPartitions(request) => {
            after(turn, async move { describe_topic_partitions::handle(&call, &request) })
        }
    });
    Ok(if span.is_disabled() { answer } else { answer.instrument(span).boxed() })
}

fn after<F>(turn: Turn, answer: F) -> BoxFuture<'static, Answer>
where
    F: Future<Output = Answer> + Send + 'static,
{
    async move {
        turn.come().await;
        answer.await
    }
    .boxed()
}

impl Call {
    /// The answer, encoded in the request's version.
    fn reply<T: KafkaResponse>(&self, response: &T) -> Answer {
        self.encoded(encode_response(self.correlation_id, self.version, response))
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
