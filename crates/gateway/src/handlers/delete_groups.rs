//! DeleteGroups.

use std::collections::BTreeSet;

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_wire::messages::delete_groups_response::DeletableGroupResult;
use tidemark_wire::messages::{DeleteGroupsRequest, DeleteGroupsResponse, build};

use super::Call;
use super::groups::each;
use crate::connection::Answer;
use crate::error;

pub(super) async fn handle(call: Call, request: DeleteGroupsRequest) -> Answer {
    // Named twice it is answered once. The empty name too is a group here, as in Kafka.
    let mut seen = BTreeSet::new();
    let groups: Vec<_> = request.groups_names.into_iter().filter(|group| seen.insert(group.clone())).collect();
    let deleted = each(&groups, |group| delete(&call, group)).await;
    call.reply(&build(|response: &mut DeleteGroupsResponse| {
        for (group, deleted) in groups.iter().zip(deleted) {
            response.results.push(build(|result: &mut DeletableGroupResult| {
                result.group_id = group.clone();
                result.error_code = deleted.err().map_or(0, |error| call.failed(error::of_group(&error)));
            }));
        }
    }))
}

async fn delete(call: &Call, group: &str) -> Result<(), GroupError> {
    let pick = |answer| matches!(answer, GroupAnswer::Delete).then_some(());
    call.ask(group, GroupRequest::Delete, pick).await
}
