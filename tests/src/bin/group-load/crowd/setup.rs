//! Bringing a group into a state in which nothing happens but heartbeats.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::{try_join, try_join_all};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{Form, code};

use super::{Carrier, Link, Member};

/// Between two looks at whether all have come.
const LOOK: Duration = Duration::from_millis(10);

/// How often a member of KIP-848 asks for its partition before it gives up.
const TRIES: usize = 2000;

/// One member on each connection, in one generation of the classic protocol, with a partition each.
pub(super) async fn classic(group: &str, carriers: &mut [Carrier], topic: &TopicRef) -> Result<()> {
    let count = carriers.len();
    let joins = try_join_all(carriers.iter_mut().map(|(link, _)| introduce(link, group, topic))).await?;
    let (leader, followers) = carriers.split_first_mut().expect("a group has members");
    // Who is in the first generation leads it, so the others come only then.
    let first = join_once(&mut leader.0, &joins[0]).await?;
    let (led, followed) = try_join(
        lead(&mut leader.0, &joins[0], first, count),
        try_join_all(followers.iter_mut().zip(&joins[1..]).map(|((link, _), join)| join_once(link, join))),
    )
    .await?;
    let generation = led.generation;
    ensure!(followed.iter().all(|joined| joined.generation == generation), "the members are in several generations");

    let assignments: Vec<(String, Vec<u8>)> =
        (0..).zip(&joins).map(|(number, join)| (join.member.clone(), assignment(&topic.name, &[number]))).collect();
    let identity =
        |join: &Join| Identity { group: group.to_owned(), member: join.member.clone(), instance: None, generation };
    try_join_all(carriers.iter_mut().zip(&joins).map(|((link, _), join)| {
        let of_leader: &[(String, Vec<u8>)] = if join.member == led.leader { &assignments } else { &[] };
        let body = sync_body(SYNC.1, &identity(join), (Some("consumer"), Some("range")), of_leader);
        async move {
            let error = synced(&link.call(SYNC, &body).await?, SYNC.1).error;
            ensure!(error == code::NONE, "a sync is answered {error}");
            Ok(())
        }
    }))
    .await?;
    for ((_, carried), join) in carriers.iter_mut().zip(&joins) {
        carried.push(Member::Classic(identity(join)));
    }
    Ok(())
}

/// Gets an id for a new member.
async fn introduce(link: &mut Link, group: &str, topic: &TopicRef) -> Result<Join> {
    let mut join = Join::new(group);
    join.protocols = vec![("range".to_owned(), subscription(&[&topic.name]))];
    let told = joined(&link.call(JOIN, &join.body(JOIN.1)).await?, JOIN.1);
    ensure!(told.error == code::MEMBER_ID_REQUIRED, "a new member is answered {}", told.error);
    join.member = told.member;
    Ok(join)
}

async fn join_once(link: &mut Link, join: &Join) -> Result<Joined> {
    let joined = joined(&link.call(JOIN, &join.body(JOIN.1)).await?, JOIN.1);
    ensure!(joined.error == code::NONE, "a join is answered {}", joined.error);
    Ok(joined)
}

/// Joins again when all the others wait for it.
async fn lead(link: &mut Link, join: &Join, mut joined: Joined, count: usize) -> Result<Joined> {
    while joined.members.len() < count {
        let body = Form::new(DESCRIBE.0, DESCRIBE.1).list(Some(&[&join.group]), |form, group| form.text(group)).i8(0);
        let answer = link.call(DESCRIBE, &body.end().writer()).await?;
        if described(&answer, DESCRIBE.1)[0].members.len() < count {
            tokio::time::sleep(LOOK).await;
        } else {
            joined = join_once(link, join).await?;
        }
    }
    Ok(joined)
}

/// One member of KIP-848 on each connection, until each has one partition and nothing more to say.
pub(super) async fn consumer(group: &str, carriers: &mut [Carrier], topic: &TopicRef) -> Result<()> {
    let firsts: Vec<ConsumerHeartbeat> = carriers
        .iter()
        .map(|_| ConsumerHeartbeat { topics: Some(vec![topic.name.clone()]), ..Consumer::joining(group) })
        .collect();
    // So that nobody is given a share that it has to give up again, all join before any goes on.
    let mut joined = Vec::new();
    for ((link, _), first) in carriers.iter_mut().zip(&firsts) {
        joined.push(beat(link, first).await?);
    }
    let settled = try_join_all(
        carriers.iter_mut().zip(firsts).zip(joined).map(|(((link, _), first), joined)| settle(link, first, joined)),
    )
    .await?;
    for ((_, carried), heartbeat) in carriers.iter_mut().zip(settled) {
        carried.push(Member::Consumer(heartbeat));
    }
    Ok(())
}

async fn beat(link: &mut Link, heartbeat: &ConsumerHeartbeat) -> Result<ConsumerHeartbeatAnswer> {
    let body = heartbeat.body(CONSUMER_HEARTBEAT.1);
    let answer = consumer_heartbeat_answer(&link.call(CONSUMER_HEARTBEAT, &body).await?, CONSUMER_HEARTBEAT.1);
    ensure!(answer.error == code::NONE, "a heartbeat is answered {}: {:?}", answer.error, answer.message);
    Ok(answer)
}

/// Does what it is told until it owns one partition, and returns what its heartbeats say from then on.
async fn settle(
    link: &mut Link,
    first: ConsumerHeartbeat,
    mut answer: ConsumerHeartbeatAnswer,
) -> Result<ConsumerHeartbeat> {
    let mut owned = Partitions::new();
    for _ in 0..TRIES {
        let news = answer.assignment.take().filter(|assignment| *assignment != owned);
        if news.is_none() && owned.values().map(|partitions| partitions.len()).sum::<usize>() == 1 {
            return Ok(quiet(&first, answer.epoch, None));
        }
        let told = news.is_some();
        owned = news.unwrap_or(owned);
        if !told {
            tokio::time::sleep(LOOK).await;
        }
        answer = beat(link, &quiet(&first, answer.epoch, told.then(|| owned.clone()))).await?;
    }
    anyhow::bail!("a member got no partition")
}

fn quiet(first: &ConsumerHeartbeat, epoch: i32, owned: Option<Partitions>) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: first.group.clone(),
        member: first.member.clone(),
        epoch,
        rebalance_ms: -1,
        owned,
        ..ConsumerHeartbeat::default()
    }
}
