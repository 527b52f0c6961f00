//! The contract of a coordinator as the owner of groups.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use tidemark_model::group::*;
use tidemark_model::{GroupCoordinator, GroupError};
use tokio::sync::watch;

use crate::hop::{Proxy, Served, groups_at, groups_server, nobody, until, within};

/// Writes down what it is asked, and lets joins wait until it is told.
#[derive(Debug)]
pub struct Groups {
    /// The heartbeats' generations and the joins' member ids, in the order in which the calls were made.
    made: Mutex<Vec<String>>,
    joining: watch::Sender<bool>,
    heartbeats: watch::Sender<bool>,
}

impl Groups {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { made: Mutex::default(), joining: watch::channel(true).0, heartbeats: watch::channel(true).0 })
    }

    fn made(&self) -> Vec<String> {
        self.made.lock().unwrap().clone()
    }
}

#[async_trait]
impl GroupCoordinator for Groups {
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        let (gate, answer) = match call.request {
            GroupRequest::Heartbeat(member) => {
                self.made.lock().unwrap().push(member.generation.to_string());
                (self.heartbeats.subscribe(), Ok(GroupAnswer::Heartbeat))
            }
            GroupRequest::Join(join) => {
                self.made.lock().unwrap().push(join.member_id.clone());
                (self.joining.subscribe(), Err(GroupError::MemberIdRequired(join.member_id)))
            }
            // As large an answer as it is told.
            GroupRequest::Sync(sync) => {
                let assignment = Bytes::from(vec![7; sync.member.generation as usize]);
                let synced = Synced { protocol_type: "consumer".into(), protocol_name: call.group, assignment };
                (self.joining.subscribe(), Ok(GroupAnswer::Sync(synced)))
            }
            GroupRequest::DescribeConfigs => {
                let configs = BTreeMap::from([(call.client_id, call.client_host)]);
                (self.heartbeats.subscribe(), Ok(GroupAnswer::DescribeConfigs(configs)))
            }
            _ => (self.heartbeats.subscribe(), Err(GroupError::GroupIdNotFound(call.group))),
        };
        let mut gate = gate;
        async move {
            let _ = gate.wait_for(|open| *open).await;
            answer
        }
        .boxed()
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        if !*self.joining.borrow() {
            return Err(GroupError::LoadInProgress);
        }
        let listed = |n: u32| ListedGroup {
            group: format!("group-{n}"),
            protocol_type: "consumer".into(),
            state: "Stable".into(),
            kind: GroupKind::Consumer,
        };
        Ok((0..50_000).map(listed).collect())
    }
}

async fn either_way<F, Fut>(test: F)
where
    F: Fn(Arc<dyn GroupCoordinator>, Arc<Groups>) -> Fut,
    Fut: Future<Output = ()>,
{
    let groups = Groups::new();
    test(groups.clone(), groups).await;
    let (groups, _served, remote) = behind_a_hop().await;
    test(remote, groups).await;
}

async fn behind_a_hop() -> (Arc<Groups>, Served, Arc<dyn GroupCoordinator>) {
    let groups = Groups::new();
    let served = groups_server(groups.clone()).await;
    let remote = groups_at(served.address);
    (groups, served, remote)
}

fn call(request: GroupRequest) -> GroupCall {
    GroupCall { group: "g".into(), client_id: "client".into(), client_host: "/127.0.0.1".into(), request }
}

fn member(generation: i32) -> Member {
    Member { member_id: "m".into(), instance_id: None, generation }
}

fn heartbeat(generation: i32) -> GroupCall {
    call(GroupRequest::Heartbeat(member(generation)))
}

fn join(member_id: impl ToString, metadata: usize) -> GroupCall {
    call(GroupRequest::Join(Join {
        member_id: member_id.to_string(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![1; metadata].into() }],
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(300),
        requires_member_id: true,
        can_skip_assignment: true,
        reason: None,
    }))
}

fn sync(bytes: i32) -> GroupCall {
    let (protocol_type, protocol_name) = (None, None);
    call(GroupRequest::Sync(Sync { member: member(bytes), protocol_type, protocol_name, assignments: vec![] }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_lists_are_answered() {
    either_way(|groups, fake| async move {
        let configs = within("configs", groups.call(call(GroupRequest::DescribeConfigs))).await;
        let expected = BTreeMap::from([("client".to_owned(), "/127.0.0.1".to_owned())]);
        assert_eq!(configs, Ok(GroupAnswer::DescribeConfigs(expected)));
        let missing = within("missing", groups.call(call(GroupRequest::Describe))).await;
        assert_eq!(missing, Err(GroupError::GroupIdNotFound("g".into())));
        let listed = within("list", groups.list()).await.unwrap();
        assert_eq!((listed.len(), listed[49_999].group.as_str()), (50_000, "group-49999"));
        fake.joining.send_replace(false);
        assert_eq!(within("list", groups.list()).await, Err(GroupError::LoadInProgress));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_keep_the_order_in_which_they_were_made_however_they_are_waited_for() {
    either_way(|groups, fake| async move {
        let mut calls: Vec<_> = (0..1_000).map(|n| tokio::spawn(groups.call(heartbeat(n)))).collect();
        drop(groups.call(heartbeat(1_000)));
        calls.reverse();
        for answer in within("answers", join_all(calls)).await {
            assert_eq!(answer.unwrap(), Ok(GroupAnswer::Heartbeat));
        }
        until("the dropped one too", || fake.made().len() == 1_001).await;
        assert_eq!(fake.made(), (0..=1_000).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_of_joins_that_wait_do_not_hold_up_heartbeats() {
    either_way(|groups, fake| async move {
        fake.joining.send_replace(false);
        // More than may be in flight of what is answered at once.
        let joins: Vec<_> = (0..20_000).map(|n| groups.call(join(n, 100))).collect();
        for n in 0..100 {
            assert_eq!(within("heartbeat", groups.call(heartbeat(n))).await, Ok(GroupAnswer::Heartbeat));
        }
        until("all arrive", || fake.made().len() == 20_100).await;
        fake.joining.send_replace(true);
        for (n, answer) in within("joins", join_all(joins)).await.into_iter().enumerate() {
            assert_eq!(answer, Err(GroupError::MemberIdRequired(n.to_string())));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_assignments_that_are_ready_together_come_whole() {
    either_way(|groups, fake| async move {
        fake.joining.send_replace(false);
        // Together they are more than a message holds.
        let syncs: Vec<_> = (0..40).map(|_| groups.call(sync(4 << 20))).collect();
        assert_eq!(within("heartbeat", groups.call(heartbeat(1))).await, Ok(GroupAnswer::Heartbeat));
        fake.joining.send_replace(true);
        for synced in within("syncs", join_all(syncs)).await {
            let Ok(GroupAnswer::Sync(synced)) = synced else { panic!("{synced:?}") };
            assert_eq!(synced.assignment.len(), 4 << 20);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_no_message_holds_fails_alone() {
    let (_groups, _served, remote) = behind_a_hop().await;
    let large = tokio::spawn(remote.call(sync(65 << 20)));
    for n in 0..10 {
        assert_eq!(within("heartbeat", remote.call(heartbeat(n))).await, Ok(GroupAnswer::Heartbeat));
    }
    let refused = within("refusal", large).await.unwrap();
    assert!(matches!(&refused, Err(GroupError::InvalidRequest(text)) if text.contains("limit")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_are_not_answered_are_bounded_and_so_are_their_bytes() {
    let (fake, _served, remote) = behind_a_hop().await;
    fake.joining.send_replace(false);
    // 128 MiB wait at most.
    let calls: Vec<_> = (0..200).map(|n| remote.call(join(n, 1 << 20))).collect();
    let refused = calls.into_iter().skip(128).map(|call| within("refusal", call));
    for answer in join_all(refused).await {
        assert!(matches!(&answer, Err(GroupError::Unavailable(text)) if text.contains("unanswered")), "{answer:?}");
    }
    assert_eq!(within("heartbeat", remote.call(heartbeat(1))).await, Ok(GroupAnswer::Heartbeat));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_tells_what_may_have_been_done_from_what_was_not() {
    let fake = Groups::new();
    let served = groups_server(fake.clone()).await;
    let proxy = Proxy::to(served.address).await;
    let remote = groups_at(proxy.address);
    // A stream that answered is replaced at once.
    assert_eq!(within("answer", remote.call(heartbeat(0))).await, Ok(GroupAnswer::Heartbeat));
    fake.heartbeats.send_replace(false);
    let calls: Vec<_> = (1..50).map(|n| remote.call(heartbeat(n))).collect();
    until("all arrive", || fake.made().len() == 50).await;
    proxy.cut();
    for answer in within("failures", join_all(calls)).await {
        assert!(matches!(&answer, Err(GroupError::TimedOut(_))), "{answer:?}");
    }
    fake.heartbeats.send_replace(true);
    assert_eq!(within("answer", remote.call(heartbeat(50))).await, Ok(GroupAnswer::Heartbeat));
    assert_eq!(fake.made(), (0..=50).map(|n| n.to_string()).collect::<Vec<_>>(), "nothing is made twice");

    let nobody = nobody();
    let remote = groups_at(nobody);
    // While it connects, and while the peer is left alone.
    for n in 0..50 {
        let answer = within("failure", remote.call(heartbeat(n))).await;
        assert!(matches!(&answer, Err(GroupError::Unavailable(_))), "{answer:?}");
    }
    let answer = groups_at("not an address").call(heartbeat(1)).await;
    assert!(matches!(&answer, Err(GroupError::Unavailable(text)) if text.contains("HOST:PORT")), "{answer:?}");
}
