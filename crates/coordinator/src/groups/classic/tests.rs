//! Rule by rule, what Kafka's coordinator does.

mod joining;
mod leaving;
mod life;
mod statics;
mod syncing;

use tidemark_model::group::{GroupAnswer, GroupRequest, Join, Joined};

use crate::groups::Ticket;
use crate::groups::kit::{Kit, join, ms, sync};

/// A kit whose groups begin their first rebalance at once.
fn kit() -> Kit {
    let mut kit = Kit::new();
    kit.settings.initial_rebalance_delay = ms(0);
    kit
}

fn joins(kit: &mut Kit, request: Join) -> Ticket {
    kit.call(GroupRequest::Join(request))
}

/// Who comes again with its id.
fn again(id: &str) -> Join {
    Join { member_id: id.to_owned(), ..join() }
}

fn static_join(instance_id: &str) -> Join {
    Join { instance_id: Some(instance_id.to_owned()), ..join() }
}

/// A stable group of `count` members at its first generation, the leader first. Each is assigned its own number.
fn stable(count: usize) -> (Kit, Vec<Joined>) {
    stable_of(kit(), vec![join(); count])
}

fn stable_of(mut kit: Kit, requests: Vec<Join>) -> (Kit, Vec<Joined>) {
    kit.settings.initial_rebalance_delay = ms(100);
    let tickets: Vec<Ticket> = requests.into_iter().map(|request| joins(&mut kit, request)).collect();
    kit.advance(ms(200));
    let mut joined: Vec<Joined> = tickets.into_iter().map(|ticket| kit.joined(ticket)).collect();
    joined.sort_by_key(|joined| joined.member_id != joined.leader);
    assign(&mut kit, &joined);
    (kit, joined)
}

/// All members sync, the leader last.
fn assign(kit: &mut Kit, joined: &[Joined]) {
    let numbers: Vec<String> = (0..joined.len()).map(|n| n.to_string()).collect();
    let assignments: Vec<(&str, &str)> =
        joined.iter().zip(&numbers).map(|(joined, n)| (joined.member_id.as_str(), n.as_str())).collect();
    let mut tickets = Vec::new();
    for one in joined.iter().rev() {
        let given: &[(&str, &str)] = if one.member_id == one.leader { &assignments } else { &[] };
        tickets.push(kit.call(sync(&one.member_id, one.generation, given)));
    }
    for (ticket, n) in tickets.into_iter().rev().zip(&numbers) {
        assert_eq!(kit.synced(ticket).assignment, n.as_bytes());
    }
    assert_eq!(kit.state(), "Stable");
}

fn answered(outcome: Result<GroupAnswer, tidemark_model::GroupError>) -> Vec<Result<(), tidemark_model::GroupError>> {
    match outcome {
        Ok(GroupAnswer::Leave(results) | GroupAnswer::CommitOffsets(results) | GroupAnswer::DeleteOffsets(results)) => {
            results
        }
        other => panic!("{other:?}"),
    }
}
