use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::{Claim, Journal, JournalId, Node, Partition, Record, RecordKey, Role, Topic, TopicId};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use tidemark_model::ClusterUpdate;

use super::*;

/// What a scripted stream does next.
#[derive(Debug, Clone)]
enum Step {
    Say(ClusterUpdate),
    Fail(CoordinatorError),
    /// Says nothing for ever.
    Hang,
}

/// Plays one script for each join, and unreachable after the last.
#[derive(Debug, Default)]
struct Scripted {
    scripts: Mutex<VecDeque<Vec<Step>>>,
    joins: Mutex<Vec<(Option<u64>, Instant)>>,
    left: Mutex<Vec<(Role, NodeId, u64)>>,
}

impl Scripted {
    fn resumes(&self) -> Vec<Option<u64>> {
        self.joins.lock().unwrap().iter().map(|(resume, _)| *resume).collect()
    }
}

fn absent<T>() -> Result<T, CoordinatorError> {
    Err(CoordinatorError::Unavailable("not in this script".into()))
}

#[async_trait]
impl Coordinator for Scripted {
    fn join(
        &self,
        _: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        self.joins.lock().unwrap().push((resume, Instant::now()));
        let script =
            self.scripts.lock().unwrap().pop_front().unwrap_or_else(|| vec![Step::Fail(absent::<()>().unwrap_err())]);
        let steps = stream::iter(script).then(|step| async {
            match step {
                Step::Say(update) => Ok(update),
                Step::Fail(error) => Err(error),
                Step::Hang => std::future::pending().await,
            }
        });
        steps.boxed()
    }

    async fn leave(&self, role: Role, node: NodeId, incarnation: u64) -> Result<(), CoordinatorError> {
        self.left.lock().unwrap().push((role, node, incarnation));
        Ok(())
    }

    async fn open_journal(&self, _: OpenJournal) -> Result<Journal, CoordinatorError> {
        absent()
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: bool) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn create_partitions(&self, _: TopicRef, _: i32, _: bool) -> Result<Changed, CoordinatorError> {
        absent()
    }

    async fn alter_topic_configs(
        &self,
        _: TopicRef,
        _: Vec<ConfigChange>,
        _: bool,
    ) -> Result<Changed, CoordinatorError> {
        absent()
    }

    async fn allocate_producer_ids(&self, _: u32) -> Result<Range<i64>, CoordinatorError> {
        absent()
    }
}

/// No jitter: the longest waits.
#[derive(Debug)]
struct NoJitter;

impl Entropy for NoJitter {
    fn next_u64(&self) -> u64 {
        0
    }
}

struct Running {
    coordinator: Arc<Scripted>,
    view: ClusterView,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), FollowError>>,
}

fn run(scripts: Vec<Vec<Step>>) -> Running {
    let coordinator = Arc::new(Scripted { scripts: Mutex::new(scripts.into()), ..Scripted::default() });
    let registration = Registration {
        role: Role::Broker,
        name: "b".into(),
        incarnation: 9,
        address: "127.0.0.1:1".into(),
        rack: None,
    };
    let shutdown = CancellationToken::new();
    let (view, follower) = follow(coordinator.clone(), registration, Arc::new(NoJitter), shutdown.clone());
    Running { coordinator, view, shutdown, task: tokio::spawn(follower.run()) }
}

impl Running {
    async fn at(&self, revision: u64) -> Arc<ClusterState> {
        self.view.wait_for_revision(revision, Duration::from_secs(600)).await.unwrap()
    }
}

fn joined() -> Step {
    joined_as("c", 3)
}

fn joined_as(cluster_id: &str, node: i32) -> Step {
    joined_by(Claim { generation: 1, id: 7 }, cluster_id, node)
}

fn joined_by(claim: Claim, cluster_id: &str, node: i32) -> Step {
    Step::Say(ClusterUpdate::Joined {
        cluster_id: cluster_id.into(),
        claim: Some(claim),
        node: NodeId(node),
        settings: BTreeMap::from([("num.partitions".to_owned(), "7".to_owned())]),
    })
}

fn chunk(revision: u64, records: Vec<Record>, last: bool) -> Step {
    Step::Say(ClusterUpdate::Snapshot { revision, records, last })
}

fn delta(revision: u64, upserts: Vec<Record>, removals: Vec<RecordKey>) -> Step {
    Step::Say(ClusterUpdate::Delta { revision, upserts, removals })
}

fn broker(id: i32) -> Record {
    let address = format!("broker-{id}:7000");
    Record::Node(Node { role: Role::Broker, id: NodeId(id), incarnation: 1, address, rack: None })
}

fn topic(id: u128, name: &str) -> Record {
    Record::Topic(Topic {
        id: TopicId(uuid::Uuid::from_u128(id)),
        name: name.into(),
        replication_factor: 1,
        partitions: vec![Partition { journal: JournalId(1), epoch_base: 0 }],
        configs: BTreeMap::new(),
    })
}

fn brokers(state: &ClusterState) -> Vec<i32> {
    state.nodes(Role::Broker).map(|node| node.id.0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_in_chunks_appears_whole_and_deltas_follow_it() {
    let run = run(vec![vec![
        joined(),
        chunk(5, vec![broker(1)], false),
        chunk(5, vec![broker(2), topic(1, "orders")], true),
        delta(6, vec![], vec![]),
        delta(8, vec![broker(4)], vec![broker(1).key()]),
        Step::Hang,
    ]]);
    let mut seen = Vec::new();
    let mut changes = run.view.subscribe();
    while changes.borrow().revision < 8 {
        changes.changed().await.unwrap();
        seen.push(brokers(&changes.borrow()));
    }
    assert!(!seen.contains(&vec![1]), "half a snapshot was published: {seen:?}");
    let state = run.at(8).await;
    assert_eq!((brokers(&state), state.cluster_id.as_str()), (vec![2, 4], "c"));
    assert_eq!(state.settings["num.partitions"], "7");
    assert!(state.topic_named("orders").is_some());
    assert_eq!((run.view.joined().await, run.view.node()), (Ok(NodeId(3)), Some(NodeId(3))));
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_resumes_after_the_last_revision() {
    let lost = Step::Fail(CoordinatorError::Unavailable("gone".into()));
    let run = run(vec![
        vec![joined(), chunk(5, vec![broker(1)], true), delta(6, vec![broker(2)], vec![]), lost],
        vec![joined(), delta(7, vec![broker(3)], vec![]), Step::Hang],
    ]);
    assert_eq!(brokers(&*run.at(7).await), [1, 2, 3]);
    assert_eq!(run.coordinator.resumes(), [None, Some(6)]);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_behind_takes_nothing_back() {
    let run = run(vec![
        vec![joined(), chunk(10, vec![broker(1), broker(2)], true)],
        vec![
            joined(),
            chunk(8, vec![broker(1)], true),
            delta(9, vec![], vec![broker(2).key()]),
            delta(10, vec![], vec![broker(1).key()]),
            delta(11, vec![broker(3)], vec![]),
            Step::Hang,
        ],
    ]);
    let mut changes = run.view.subscribe();
    let mut revisions = Vec::new();
    while changes.borrow().revision < 11 {
        changes.changed().await.unwrap();
        revisions.push(changes.borrow().revision);
    }
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(brokers(&*run.at(11).await), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_snapshot_replaces_what_has_gone_meanwhile() {
    let run = run(vec![
        vec![joined(), chunk(5, vec![broker(1), topic(1, "old")], true)],
        vec![joined(), chunk(90, vec![broker(7)], false), chunk(90, vec![topic(2, "new")], true), Step::Hang],
    ]);
    let state = run.at(90).await;
    assert_eq!(brokers(&state), [7]);
    assert!(state.topic_named("old").is_none() && state.topic_named("new").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stream_out_of_turn_is_dropped_and_the_next_one_starts_clean() {
    let run = run(vec![
        vec![chunk(1, vec![broker(1)], true)],
        vec![joined(), delta(1, vec![broker(1)], vec![])],
        vec![joined(), chunk(2, vec![broker(1)], false), chunk(3, vec![broker(2)], true)],
        vec![joined(), chunk(2, vec![broker(1)], false), delta(3, vec![broker(2)], vec![])],
        vec![joined(), joined()],
        vec![joined(), chunk(4, vec![broker(4)], true), Step::Hang],
    ]);
    assert_eq!(brokers(&*run.at(4).await), [4]);
    assert_eq!(run.coordinator.resumes(), [None; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_delta_inside_a_snapshot_is_not_applied_to_the_state_before_it() {
    let run = run(vec![
        vec![joined(), chunk(5, vec![broker(1)], true)],
        vec![joined(), chunk(9, vec![broker(2)], false), delta(10, vec![broker(3)], vec![])],
        vec![joined(), chunk(20, vec![broker(4)], true), Step::Hang],
    ]);
    run.at(20).await;
    assert_eq!(run.coordinator.resumes(), [None, Some(5), Some(5)]);
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_double_up_to_the_limit_and_the_state_stands_meanwhile() {
    let run = run(vec![vec![joined(), chunk(5, vec![broker(1)], true)]]);
    run.at(5).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(brokers(&run.view.current()), [1]);
    let joins: Vec<Instant> = run.coordinator.joins.lock().unwrap().iter().map(|(_, at)| *at).collect();
    let waits: Vec<u128> = joins.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    // Paused time is exact to the timer's millisecond.
    for (wait, expected) in waits.iter().zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]) {
        assert!(wait.abs_diff(expected) <= 2, "{waits:?}");
    }
    assert!(waits.len() > 10 && waits.iter().all(|wait| *wait <= 2_002), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_never_says_joined_is_given_up_on() {
    let run = run(vec![vec![Step::Hang], vec![joined(), chunk(1, vec![broker(1)], true), Step::Hang]]);
    run.at(1).await;
    assert_eq!(run.coordinator.resumes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn being_fenced_or_in_another_cluster_ends_it() {
    let run_fenced = run(vec![vec![Step::Fail(CoordinatorError::Fenced("newer".into()))]]);
    assert_eq!(run_fenced.task.await.unwrap(), Err(FollowError::Fenced("newer".into())));
    assert_eq!(run_fenced.view.joined().await, Err(Gone));
    for other in [joined_as("other", 3), joined_as("c", 4)] {
        let run = run(vec![vec![joined(), chunk(1, vec![], true)], vec![other]]);
        assert!(matches!(run.task.await.unwrap(), Err(FollowError::Moved { .. })));
    }
    let rebuilt = joined_by(Claim { generation: 2, id: 8 }, "c", 3);
    let run = run(vec![vec![joined(), chunk(1, vec![], true)], vec![rebuilt]]);
    assert!(matches!(run.task.await.unwrap(), Err(FollowError::Rebuilt { .. })));
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_the_cluster_as_the_node_that_joined() {
    let run = run(vec![vec![joined(), chunk(1, vec![], true), Step::Hang]]);
    run.view.joined().await.unwrap();
    run.shutdown.cancel();
    run.task.await.unwrap().unwrap();
    assert_eq!(*run.coordinator.left.lock().unwrap(), [(Role::Broker, NodeId(3), 9)]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_revision_that_does_not_come_ends_at_the_deadline() {
    let run = run(vec![vec![joined(), chunk(4, vec![], true), Step::Hang]]);
    run.at(4).await;
    let start = Instant::now();
    let waited = run.view.wait_for_revision(5, Duration::from_secs(7)).await;
    assert_eq!(waited.unwrap_err(), NotYet { wanted: 5, have: 4 });
    assert_eq!(start.elapsed().as_secs(), 7);
}
