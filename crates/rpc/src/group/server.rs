//! Answers gateways for the groups that the coordinator of this process owns.

use std::sync::Arc;

use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::BoxStream;
use http::{Request, Response};
use prost::Message as _;
use tidemark_model::group::GroupCall;
use tidemark_model::{GroupCoordinator, GroupError};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tracing::Instrument as _;

use crate::convert::Malformed;
use crate::limits::{InFlight, MAX_GROUP_ANSWER, UNANSWERED_PARKED};
use crate::ordered::{Fence, Identity, Service, serve};
use crate::proto as wire;
use crate::scatter::Incoming;
use crate::scatter::answer::{self, Methods, streaming, unary};
use crate::trace;

/// What the transport serves. After `shutdown` streams end as soon as what they started is answered: what waits for
/// other members is the coordinator's to end.
pub(crate) fn server(groups: Arc<dyn GroupCoordinator>, shutdown: CancellationToken) -> answer::Service<Server> {
    answer::Service(Arc::new(Server { groups, fence: Fence::default(), shutdown }))
}

pub(crate) struct Server {
    groups: Arc<dyn GroupCoordinator>,
    fence: Fence,
    shutdown: CancellationToken,
}

impl Methods for Server {
    const NAME: &'static str = "tidemark.v1.GroupCoordinator";

    fn call(self: Arc<Self>, method: &str, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        match method {
            "Call" => future::ready(streaming(request, |metadata, stream| self.calls(metadata, stream))).boxed(),
            "List" => unary(request, async move |request| self.list(request).await).boxed(),
            unknown => future::ready(answer::unknown(unknown)).boxed(),
        }
    }
}

impl Server {
    fn calls(
        &self,
        metadata: &MetadataMap,
        calls: Incoming<wire::GroupCalls>,
    ) -> Result<BoxStream<'static, Result<wire::GroupAnswers, Status>>, Status> {
        let ticket = self.fence.admit(Identity::read(metadata)?)?;
        let service = Calling { groups: Arc::clone(&self.groups) };
        Ok(serve(service, calls, ticket, self.shutdown.clone()))
    }

    async fn list(
        &self,
        wire::ListGroupsRequest {}: wire::ListGroupsRequest,
    ) -> Result<wire::ListGroupsResponse, Status> {
        Ok(self.groups.list().await.into())
    }
}

struct Calling {
    groups: Arc<dyn GroupCoordinator>,
}

impl Service for Calling {
    type Request = wire::GroupCall;
    type Answer = wire::group_answer::Result;
    type Requests = wire::GroupCalls;
    type Answers = wire::GroupAnswers;
    type Running = BoxFuture<'static, wire::group_answer::Result>;

    const UNANSWERED: InFlight = UNANSWERED_PARKED;

    fn unpack(calls: wire::GroupCalls) -> (u64, Vec<wire::GroupCall>) {
        let wire::GroupCalls { first_sequence, calls } = calls;
        (first_sequence, calls)
    }

    fn start(&self, call: wire::GroupCall) -> Result<(Self::Running, usize), Malformed> {
        let size = call.encoded_len();
        let span = tracing::debug_span!("serve", method = "group");
        trace::follow(&span, &call.traceparent);
        let call = GroupCall::try_from(call)?;
        let answered = span.in_scope(|| self.groups.call(call));
        Ok((Box::pin(async move { bounded(answered.await.into()) }.instrument(span)), size))
    }

    fn size(answer: &wire::group_answer::Result) -> usize {
        answer.encoded_len()
    }

    fn pack(answers: Vec<(u64, wire::group_answer::Result)>) -> wire::GroupAnswers {
        let answer = |(sequence, result)| wire::GroupAnswer { sequence, result: Some(result) };
        wire::GroupAnswers { answers: answers.into_iter().map(answer).collect() }
    }
}

/// An answer that no message holds would end the stream for everybody.
fn bounded(answer: wire::group_answer::Result) -> wire::group_answer::Result {
    let size = answer.encoded_len();
    if size <= MAX_GROUP_ANSWER {
        return answer;
    }
    let why = format!("the answer has {size} bytes where {MAX_GROUP_ANSWER} are the limit");
    wire::group_answer::Result::Error(GroupError::InvalidRequest(why).into())
}
