//! Asks the coordinator that owns a group, and hides that groups move.
//!
//! A group's owner changes when coordinators come and go. Clients need not know: a call that was not done, or may be done
//! twice, is made again where the cluster state then says, for as long as a client is sure to wait. The requests of a
//! connection stay in their order all the while, since the next begins when this one is answered.

use std::time::Duration;

use tidemark_model::group::{ConsumerHeartbeatAnswer, GroupAnswer, GroupCall, GroupRequest};
use tidemark_model::{ClusterState, GroupError, Slot, route};
use tidemark_runtime::backoff::Backoff;
use tokio::time::Instant;

use crate::metrics;
use crate::service::Gateway;

/// How long a request goes on without an owner that answers. The least patient of the usual clients, franz-go, gives up on
/// a request after 10 s. Longer than it takes until the groups of a coordinator that died are another's: its lease of six
/// seconds, half a second until etcd has noticed, and what it takes to read them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(9);
/// What an owner has at least to answer, when the groups of a request that were asked before took all the time.
const LEAST: Duration = Duration::from_millis(500);
/// The first wait before an attempt that follows a failed one, unless the cluster state changes before.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// The longest wait between attempts.
const RETRY_LIMIT: Duration = Duration::from_millis(500);
/// How long the answer of an owner that is none any more may be under way.
const MOVE_GRACE: Duration = Duration::from_millis(500);

/// Which gateways may ask for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The one that clients see as the group's coordinator. Another would let what it still tries to do for a client
    /// overtake what the client does there by now.
    Coordinator,
    Any,
}

/// Asks a group's owner for a request that came at `began`. Errors are for the client.
pub(crate) async fn ask(
    gateway: &Gateway,
    call: GroupCall,
    began: Instant,
    asks: Asks,
) -> Result<GroupAnswer, GroupError> {
    let waits = waits_for_members(&call.request);
    // What waits for other members is patient until it first fails.
    let mut until = (!waits).then_some(began + PATIENCE);
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    // Why it is not known whether an attempt before was done.
    let mut doubt = None;
    loop {
        let state = gateway.cluster.current();
        let mine = route::gateway_for_group(&state, &call.group).is_some_and(|node| node.id == gateway.node);
        if asks == Asks::Coordinator && !mine {
            return Err(GroupError::NotCoordinator);
        }
        let slot = slot_of(&state, &call.group);
        let deadline = async {
            match until {
                Some(until) if !waits => tokio::time::sleep_until(until.max(Instant::now() + LEAST)).await,
                _ => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = attempt(gateway, &state, &call) => outcome,
            // Another gateway will be asked to go on with it.
            () = gateway.shutdown.cancelled(), if waits => Err(GroupError::NotCoordinator),
            () = deadline => Err(GroupError::TimedOut("the group's owner does not answer".to_owned())),
        };
        let error = match outcome {
            Err(error) if may_be_repeated(&error, &call.request) => error,
            outcome => {
                return match doubt {
                    Some(doubt) => done_before(&call.request, outcome, doubt),
                    None => outcome,
                };
            }
        };
        if matches!(error, GroupError::TimedOut(_)) {
            doubt.get_or_insert_with(|| error.clone());
        }
        let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
        let wait = backoff.next(&*gateway.entropy);
        if Instant::now() + wait >= until || gateway.shutdown.is_cancelled() {
            metrics::group_call_given_up();
            tracing::debug!(group = call.group, %error, "the group's owner cannot be asked");
            return Err(error);
        }
        metrics::group_call_repeated();
        let _ = tokio::time::timeout(wait, moved(gateway, &call.group, slot)).await;
    }
}

async fn attempt(gateway: &Gateway, state: &ClusterState, call: &GroupCall) -> Result<GroupAnswer, GroupError> {
    let slot = slot_of(state, &call.group);
    let Some(owner) = route::coordinator_for(state, route::slot_for(&call.group)) else {
        return Err(GroupError::Unavailable("no coordinator owns the group".to_owned()));
    };
    let mut answer = gateway.groups.dial(owner.id, &owner.address).call(call.clone());
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        () = moved(gateway, &call.group, slot) => {}
    }
    // An owner that is paused, or cut off, never answers.
    let late = || GroupError::TimedOut("the group moved before its owner answered".to_owned());
    tokio::time::timeout(MOVE_GRACE, answer).await.unwrap_or_else(|_| Err(late()))
}

/// Returns when the owner is another than `slot` says, or alive again.
async fn moved(gateway: &Gateway, group: &str, slot: Option<Slot>) {
    let mut states = gateway.cluster.subscribe();
    if states.wait_for(|state| slot_of(state, group) != slot).await.is_err() {
        // Nobody follows the cluster state any more: the process is stopping.
        std::future::pending::<()>().await;
    }
}

/// The slot of a group, while its owner is alive.
fn slot_of(state: &ClusterState, group: &str) -> Option<Slot> {
    let id = route::slot_for(group);
    route::coordinator_for(state, id).and_then(|_| state.slot(id)).copied()
}

/// Whether the owner answers when other members have come too.
fn waits_for_members(request: &GroupRequest) -> bool {
    matches!(request, GroupRequest::Join(_) | GroupRequest::Sync(_))
}

/// What to say of a call that was made again, as it would be said had it been done once.
fn done_before(
    request: &GroupRequest,
    outcome: Result<GroupAnswer, GroupError>,
    doubt: GroupError,
) -> Result<GroupAnswer, GroupError> {
    let left = |result| match result {
        Err(GroupError::UnknownMemberId(_)) => Ok(()),
        result => result,
    };
    match (request, outcome) {
        (GroupRequest::Leave(_), Ok(GroupAnswer::Leave(results))) => {
            Ok(GroupAnswer::Leave(results.into_iter().map(left).collect()))
        }
        (GroupRequest::Leave(all), Err(GroupError::UnknownMemberId(_))) => {
            Ok(GroupAnswer::Leave(vec![Ok(()); all.len()]))
        }
        (GroupRequest::Delete, Err(GroupError::GroupIdNotFound(_))) => Ok(GroupAnswer::Delete),
        (GroupRequest::ConsumerHeartbeat(heartbeat), outcome) => match outcome {
            Err(GroupError::UnknownMemberId(_) | GroupError::GroupIdNotFound(_)) if heartbeat.member_epoch < 0 => {
                Ok(GroupAnswer::ConsumerHeartbeat(ConsumerHeartbeatAnswer {
                    member_id: heartbeat.member_id.clone(),
                    member_epoch: heartbeat.member_epoch,
                    heartbeat_interval: Duration::ZERO,
                    assignment: None,
                }))
            }
            // The first one may have given it a new epoch. Who hears an error of the coordinator says with its next
            // heartbeat all that it has, and so is not fenced.
            Err(GroupError::FencedMemberEpoch(_)) => Err(doubt),
            outcome => outcome,
        },
        (_, outcome) => outcome,
    }
}

/// Whether to ask again after an error: the call was not done, or no harm comes of doing it twice.
fn may_be_repeated(error: &GroupError, request: &GroupRequest) -> bool {
    match error {
        GroupError::NotCoordinator | GroupError::LoadInProgress | GroupError::Unavailable(_) => true,
        GroupError::TimedOut(_) => match request {
            // Without an id each call would make another member.
            GroupRequest::Join(join) => {
                !join.member_id.is_empty() || join.instance_id.is_some() || join.requires_member_id
            }
            GroupRequest::Sync(_)
            | GroupRequest::Heartbeat(_)
            | GroupRequest::CommitOffsets(_)
            | GroupRequest::FetchOffsets(_)
            | GroupRequest::DeleteOffsets(_)
            | GroupRequest::Describe
            | GroupRequest::DescribeConsumer
            | GroupRequest::AlterConfigs { .. }
            | GroupRequest::DescribeConfigs
            | GroupRequest::Leave(_)
            | GroupRequest::Delete => true,
            GroupRequest::ConsumerHeartbeat(heartbeat) => !heartbeat.member_id.is_empty(),
        },
        GroupError::InvalidGroupId
        | GroupError::GroupIdNotFound(_)
        | GroupError::NonEmptyGroup
        | GroupError::GroupSubscribedToTopic
        | GroupError::GroupMaxSizeReached
        | GroupError::UnknownMemberId(_)
        | GroupError::MemberIdRequired(_)
        | GroupError::IllegalGeneration
        | GroupError::RebalanceInProgress
        | GroupError::InconsistentGroupProtocol
        | GroupError::InvalidSessionTimeout
        | GroupError::FencedInstanceId
        | GroupError::FencedMemberEpoch(_)
        | GroupError::StaleMemberEpoch(_)
        | GroupError::UnreleasedInstanceId(_)
        | GroupError::UnsupportedAssignor(_)
        | GroupError::InvalidRegularExpression(_)
        | GroupError::OffsetMetadataTooLarge
        | GroupError::UnstableOffset
        | GroupError::UnknownTopicOrPartition
        | GroupError::InvalidConfig(_)
        | GroupError::InvalidRequest(_)
        | GroupError::TooLarge(_)
        | GroupError::UnsupportedVersion(_) => false,
    }
}
