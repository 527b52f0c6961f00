//! ListGroups: this gateway's share of the groups of all coordinators.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future;
use tidemark_model::group::{GroupKind, ListedGroup};
use tidemark_model::{ClusterState, GroupError, Node, NodeId, SlotId, route};
use tidemark_runtime::backoff::Backoff;
use tidemark_wire::messages::{ListGroupsRequest, ListGroupsResponse, StrBytes, build, list_groups_response};
use tokio::time::Instant;

use super::Call;
use crate::connection::Answer;
use crate::error;
use crate::owner;
use crate::service::Gateway;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LIMIT: Duration = Duration::from_millis(500);

pub(super) async fn handle(call: Call, request: ListGroupsRequest) -> Answer {
    // Filters ignore case, as Kafka's do.
    let (states, kinds) = (filter(&request.states_filter), filter(&request.types_filter));
    let listed = list(&call.gateway).await;
    call.reply(&build(|response: &mut ListGroupsResponse| match listed {
        Ok(groups) => {
            let state = call.gateway.cluster.current();
            let mine = |group: &ListedGroup| {
                route::gateway_for_group(&state, &group.group).is_some_and(|gateway| gateway.id == call.gateway.node)
            };
            let groups = groups.into_iter().filter(|group| {
                (states.is_empty() || states.contains(&group.state.to_lowercase()))
                    && (kinds.is_empty() || kinds.contains(kind(group.kind)))
                    && mine(group)
            });
            response.groups = groups.map(answer).collect();
        }
        Err(error) => response.error_code = call.failed(error::of_group(&error)),
    }))
}

fn filter(words: &[StrBytes]) -> BTreeSet<String> {
    words.iter().map(|word| word.trim().to_lowercase()).collect()
}

fn answer(group: ListedGroup) -> list_groups_response::ListedGroup {
    let ListedGroup { group, protocol_type, state, kind: of } = group;
    build(|answer: &mut list_groups_response::ListedGroup| {
        answer.group_id = group.into();
        answer.protocol_type = protocol_type.into();
        answer.group_state = state.into();
        answer.group_type = kind(of).into();
    })
}

fn kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Classic => "classic",
        GroupKind::Consumer => "consumer",
    }
}

/// The groups of every slot, all or none.
async fn list(gateway: &Gateway) -> Result<Vec<ListedGroup>, GroupError> {
    let until = Instant::now() + owner::PATIENCE;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        let error = match list_once(gateway).await {
            Ok(groups) => return Ok(groups),
            Err(error) => error,
        };
        let wait = backoff.next(&*gateway.entropy);
        if Instant::now() + wait >= until || gateway.shutdown.is_cancelled() {
            return Err(match error {
                // No coordinator owns all of them, so that none is the wrong one.
                GroupError::NotCoordinator => GroupError::Unavailable("the groups are moving".to_owned()),
                error => error,
            });
        }
        tokio::time::sleep(wait).await;
    }
}

async fn list_once(gateway: &Gateway) -> Result<Vec<ListedGroup>, GroupError> {
    let state = gateway.cluster.current();
    let owners = owners(&state)?;
    let lists = owners.iter().map(|node| {
        let coordinator = gateway.groups.dial(node.id, &node.address);
        async move { coordinator.list().await }
    });
    let lists = future::try_join_all(lists).await?;
    // A slot that moved meanwhile may be in two lists, or in none.
    if slots(&gateway.cluster.current()) != slots(&state) {
        return Err(GroupError::NotCoordinator);
    }
    Ok(lists.into_iter().flatten().collect())
}

/// Every coordinator that owns slots, when all slots have an owner that is alive.
fn owners(state: &ClusterState) -> Result<Vec<&Node>, GroupError> {
    let mut owners: Vec<&Node> = Vec::new();
    for id in (0..route::SLOTS).map(SlotId) {
        let owner = route::coordinator_for(state, id);
        let owner = owner.ok_or_else(|| GroupError::Unavailable(format!("nobody owns slot {id}")))?;
        if !owners.iter().any(|known| known.id == owner.id) {
            owners.push(owner);
        }
    }
    Ok(owners)
}

fn slots(state: &ClusterState) -> Vec<(NodeId, u64)> {
    state.slots().map(|slot| (slot.owner, slot.incarnation)).collect()
}
