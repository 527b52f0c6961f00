//! A coordinator on another node, as the owner of groups.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{self, BoxFuture, FutureExt as _};
use prost::Message as _;
use tidemark_model::group::{GroupAnswer, GroupCall, GroupRequest, ListedGroup};
use tidemark_model::{Entropy, GroupCoordinator, GroupError};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use crate::limits::{GROUP_DEADLINE, HOP_MARGIN, MAX_MESSAGE, READ_DEADLINE, REBALANCE_DEADLINE};
use crate::ordered::{Identity, Lane, Link, Outgoing, answer};
use crate::proto as wire;
use crate::proto::group_coordinator_client::GroupCoordinatorClient;
use crate::scatter::{Incoming, call};
use crate::status::Failure;
use crate::trace;
use crate::transport::{AddressError, Traced, connect, connection, endpoint, traced, unary};

#[derive(Debug)]
pub(crate) struct RemoteGroups {
    calls: Link<CallLane>,
    lists: GroupCoordinatorClient<Traced>,
}

impl RemoteGroups {
    pub(crate) fn new(address: &str, entropy: Arc<dyn Entropy>) -> Result<Self, AddressError> {
        let calls = Link::new(CallLane { endpoint: endpoint(address)? }, entropy);
        let lists = GroupCoordinatorClient::new(traced(connection(address)?));
        let lists = lists.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { calls, lists })
    }
}

#[async_trait]
impl GroupCoordinator for RemoteGroups {
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        let deadline = deadline(&call.request);
        let mut call = wire::GroupCall::from(call);
        call.traceparent = trace::traceparent();
        let size = call.encoded_len();
        match self.calls.send(call, size) {
            Err(failure) => future::ready(Err(failure.into())).boxed(),
            Ok(answered) => {
                async move { Result::try_from(answer(deadline, answered).await?).map_err(Failure::from)? }.boxed()
            }
        }
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let (mut client, request) = (self.lists.clone(), wire::ListGroupsRequest {});
        let response = unary(READ_DEADLINE, request, |request| async move { client.list(request).await }).await?;
        Result::try_from(response).map_err(Failure::from)?
    }
}

/// How long the answer is waited for.
fn deadline(request: &GroupRequest) -> Duration {
    let at_peer = match request {
        GroupRequest::Join(join) => join.rebalance_timeout.max(REBALANCE_DEADLINE),
        GroupRequest::Sync(_) => REBALANCE_DEADLINE,
        GroupRequest::Heartbeat(_)
        | GroupRequest::Leave(_)
        | GroupRequest::ConsumerHeartbeat(_)
        | GroupRequest::CommitOffsets(_)
        | GroupRequest::FetchOffsets(_)
        | GroupRequest::DeleteOffsets(_)
        | GroupRequest::Describe
        | GroupRequest::DescribeConsumer
        | GroupRequest::Delete
        | GroupRequest::AlterConfigs { .. }
        | GroupRequest::DescribeConfigs => return GROUP_DEADLINE,
    };
    at_peer + HOP_MARGIN
}

/// Each stream has a connection to itself: a new stream never starts on what is left of a connection that broke.
#[derive(Debug)]
struct CallLane {
    endpoint: Endpoint,
}

impl Lane for CallLane {
    type Request = wire::GroupCall;
    type Answer = wire::GroupAnswer;
    type Requests = wire::GroupCalls;
    type Answers = wire::GroupAnswers;

    /// What waits until all members have come, or the leader has assigned.
    fn parks(call: &wire::GroupCall) -> bool {
        matches!(call.request, Some(wire::group_call::Request::Join(_) | wire::group_call::Request::Sync(_)))
    }

    fn pack(first_sequence: u64, calls: Vec<wire::GroupCall>) -> wire::GroupCalls {
        wire::GroupCalls { first_sequence, calls }
    }

    fn unpack(answers: wire::GroupAnswers) -> impl Iterator<Item = (u64, wire::GroupAnswer)> + Send {
        answers.answers.into_iter().map(|answer| (answer.sequence, answer))
    }

    async fn open(&self, calls: Outgoing<Self>, identity: Identity) -> Result<Incoming<wire::GroupAnswers>, Status> {
        let mut metadata = MetadataMap::new();
        identity.write(&mut metadata);
        call::stream(connect(&self.endpoint).await?, "/tidemark.v1.GroupCoordinator/Call", calls, metadata).await
    }
}
