//! Groups as callers meet them: in the slots of one coordinator, of the next, and while the store is away.

mod cases;
mod outage;

use std::time::Duration;

use tidemark_model::group::{GroupAnswer, GroupCall, GroupRequest, Join, Joined};
use tidemark_model::{GroupCoordinator, GroupError, TopicPartition};

use super::harness::{create, new, settings, within};
use super::on_both;
use crate::groups::kit::{self, join, sync};
use crate::{Service, Settings};

on_both! { cases:
    commits_of_one_caller_are_stored_in_their_order;
    a_stable_group_carries_on_with_the_next_coordinator;
    a_rebalance_in_flight_is_given_up_by_who_hands_over;
    offsets_of_a_deleted_topic_go_away;
    every_group_is_listed_by_its_owner;
}

/// Another name than the harness's own: names are of one process each.
fn named(name: &str) -> Settings {
    Settings { name: name.into(), address: format!("{name}:1"), ..settings() }
}

async fn call(service: &Service, group: &str, request: GroupRequest) -> Result<GroupAnswer, GroupError> {
    within(service.call(to(group, request))).await
}

fn to(group: &str, request: GroupRequest) -> GroupCall {
    GroupCall { group: group.into(), client_id: "client".into(), client_host: "/h".into(), request }
}

/// Asks until the coordinator owns the group and has read it.
async fn ask(service: &Service, group: &str, request: GroupRequest) -> Result<GroupAnswer, GroupError> {
    let asking = async {
        loop {
            match service.call(to(group, request.clone())).await {
                Err(GroupError::NotCoordinator | GroupError::LoadInProgress) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return outcome,
            }
        }
    };
    within(asking).await
}

async fn committed(service: &Service, group: &str, at: TopicPartition) -> Option<i64> {
    match ask(service, group, kit::fetch(None)).await {
        Ok(GroupAnswer::FetchOffsets(fetched)) => {
            let found = fetched.into_iter().find(|fetched| fetched.partition == at)?;
            found.result.unwrap().map(|committed| committed.offset)
        }
        other => panic!("{other:?}"),
    }
}

async fn topic(service: &Service, name: &str) -> TopicPartition {
    TopicPartition::new(create(service, new(name)).await.unwrap().topic.id, 0)
}

fn quick() -> Join {
    Join { session_timeout: Duration::from_secs(30), ..join() }
}

/// A stable group of one member.
async fn stable(service: &Service, group: &str) -> Joined {
    let joined = match ask(service, group, GroupRequest::Join(quick())).await {
        Ok(GroupAnswer::Join(joined)) => joined,
        other => panic!("{other:?}"),
    };
    let assigned = sync(&joined.member_id, joined.generation, &[(&joined.member_id, "all")]);
    assert!(call(service, group, assigned).await.is_ok());
    joined
}
