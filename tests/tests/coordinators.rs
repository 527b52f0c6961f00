//! What the death, the sleep and the end of a coordinator are to the groups that it owns: nothing. Started by `cargo xtask
//! integration`; each test has a cluster of its own.

use std::time::{Duration, Instant};

use tidemark_tests::clients::{admin_for, create_on, eventually, unique};
use tidemark_tests::metrics::metric;
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{self, Connection, code};
use tidemark_tests::target::{binaries, directory};
use xtask::cluster::{Options, Services};
use xtask::process::Signal;

const COORDINATORS: usize = 3;
const PARTITIONS: i32 = 4;
/// How long a coordinator that is not heard stays an owner, and how long others may take to be one then.
const LEASE: Duration = Duration::from_secs(3);
const TAKEOVER: Duration = Duration::from_secs(1);
/// What a request takes here, where every process shares two cores.
const SLOWNESS: Duration = Duration::from_secs(3);

struct Cluster {
    services: Services,
    topic: TopicRef,
    _dir: Option<tempfile::TempDir>,
}

impl Cluster {
    fn start(lease: Duration) -> Self {
        let binaries = binaries().expect("the services build");
        let (dir, guard) = directory("coordinators").expect("a directory can be made");
        let coordinator = format!("coordinator_lease_ms = {}\n", lease.as_millis());
        let options = Options { coordinators: COORDINATORS, coordinator, ..Options::default() };
        let dir = dir.join(unique("cluster"));
        let services = Services::start(&binaries, &dir, &options).unwrap_or_else(|error| panic!("{error:#}"));
        create_on(&admin_for(&services.bootstrap), "topic", PARTITIONS, &[]).expect("the topic is created");
        let topic = raw::describe_topic_at(&services.bootstrap, "topic");
        let topic = TopicRef { name: "topic".to_owned(), id: topic.id };
        Self { services, topic, _dir: guard }
    }

    fn connection(&self, group: &str) -> Connection {
        coordinator_at(&self.services.bootstrap, group)
    }

    /// How many slots a coordinator says it owns. None while it says nothing.
    fn slots(&self, name: &str) -> Option<u32> {
        let owned = metric(self.services.http(name)?, "tidemark_coordinator_slots_owned", &[]).ok()??;
        Some(owned as u32)
    }

    /// Waits until the slots are spread over so many coordinators, all of which say so.
    fn spread(&self, coordinators: &[String]) {
        eventually("the slots to be spread", || {
            let owned: Vec<u32> = coordinators.iter().filter_map(|name| self.slots(name)).collect();
            let share = 64 / coordinators.len() as u32;
            owned.len() == coordinators.len()
                && owned.iter().sum::<u32>() == 64
                && owned.iter().all(|own| *own >= share)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.services.logs());
        }
    }
}

fn coordinators() -> Vec<String> {
    (0..COORDINATORS).map(|index| format!("coordinator-{index}")).collect()
}

/// A group of either protocol that has come to rest, and has committed.
struct Resting {
    classic: Vec<Classic>,
    consumer: Vec<Consumer>,
    committed: i64,
}

impl Resting {
    fn start(cluster: &Cluster) -> Self {
        let (name, other) = (unique("classic"), unique("consumer"));
        let member = |_| Classic { connection: cluster.connection(&name), join: Join::new(&name), generation: -1 };
        let mut classic: Vec<Classic> = (0..2).map(member).collect();
        stable(&mut classic);
        let first = |_| {
            let topics = Some(vec!["topic".to_owned()]);
            let first = ConsumerHeartbeat { topics, ..Consumer::joining(&other) };
            Consumer::on(cluster.connection(&other), first)
        };
        let mut consumer: Vec<Consumer> = (0..2).map(first).collect();
        eventually("the consumer group to come to rest", || {
            consumer.iter_mut().for_each(Consumer::beat_well);
            consumer.iter().all(|member| member.count() == 2 && member.epoch == consumer[0].epoch)
        });
        // What it owns is told once more.
        consumer.iter_mut().for_each(Consumer::beat_well);
        Self { classic, consumer, committed: 0 }
    }

    /// All members are heard, and nothing has changed. Returns whether that could be said.
    fn is_undisturbed(&mut self) -> bool {
        let all_beat = self.classic.iter_mut().all(|member| {
            let error = member.heartbeat();
            assert!(error == code::NONE || is_elsewhere(error), "a member of the classic group is told {error}");
            error == code::NONE
        });
        all_beat
            && self.consumer.iter_mut().all(|member| {
                let (epoch, owned) = (member.epoch, member.owned.clone());
                let answer = member.beat();
                let error = answer.error;
                assert!(
                    error == code::NONE || is_elsewhere(error),
                    "a member of the consumer group is told {answer:?}"
                );
                assert_eq!((member.epoch, &member.owned), (epoch, &owned), "it has another share");
                error == code::NONE
            })
    }

    /// What was committed is there, and more can be.
    fn commits(&mut self, topic: &TopicRef) {
        let (before, offset) = (self.committed, self.committed + 100);
        let names = [self.classic[0].join.group.clone(), self.consumer[0].first.group.clone()];
        let connections = [&mut self.classic[0].connection, &mut self.consumer[0].connection];
        for (connection, group) in connections.into_iter().zip(names).filter(|_| before > 0) {
            assert_eq!(committed_offset(connection, &group, topic, 0).offset, before, "of {group}");
        }
        let commit = self.classic[0].commit().offset(topic, 0, offset);
        assert_eq!(commit.call(&mut self.classic[0].connection, COMMIT.1), [code::NONE]);
        let commit = self.consumer[0].commit().offset(topic, 0, offset);
        assert_eq!(commit.call(&mut self.consumer[0].connection, COMMIT.1), [code::NONE]);
        self.committed = offset;
    }
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn groups_at_rest_do_not_notice_that_coordinators_are_killed() {
    let mut cluster = Cluster::start(LEASE);
    let all = coordinators();
    cluster.spread(&all);
    // Some of them are owned by whoever is killed.
    let mut groups: Vec<Resting> = (0..4).map(|_| Resting::start(&cluster)).collect();
    groups.iter_mut().for_each(|group| group.commits(&cluster.topic));
    for name in &all {
        cluster.services.kill(name).expect("a coordinator");
        let killed = Instant::now();
        for group in &mut groups {
            while !group.is_undisturbed() {
                assert!(killed.elapsed() < LEASE + TAKEOVER + SLOWNESS, "nobody owns a group of {name}");
            }
        }
        let heard = killed.elapsed();
        eprintln!("{name} killed, all groups answer after {heard:.1?}");
        assert!(heard < LEASE + TAKEOVER + SLOWNESS, "{heard:?}");
        groups.iter_mut().for_each(|group| group.commits(&cluster.topic));
        cluster.services.start_again(name).unwrap_or_else(|error| panic!("{error:#}"));
        cluster.spread(&all);
        assert!(groups.iter_mut().all(Resting::is_undisturbed), "{name} is back, and a group cannot be asked");
        groups.iter_mut().for_each(|group| group.commits(&cluster.topic));
    }
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn coordinators_asked_to_stop_hand_groups_over_at_once() {
    // Whoever waited for the lease would be seen.
    let mut cluster = Cluster::start(Duration::from_secs(60));
    let all = coordinators();
    cluster.spread(&all);
    let mut groups: Vec<Resting> = (0..4).map(|_| Resting::start(&cluster)).collect();
    groups.iter_mut().for_each(|group| group.commits(&cluster.topic));
    for name in &all {
        cluster.services.terminate(name).unwrap_or_else(|error| panic!("{error:#}"));
        let stopped = Instant::now();
        for group in &mut groups {
            assert!(group.is_undisturbed(), "{name} has stopped, and a group cannot be asked");
            group.commits(&cluster.topic);
        }
        eprintln!("{name} stopped, all groups answer after {:.1?}", stopped.elapsed());
        cluster.services.start_again(name).unwrap_or_else(|error| panic!("{error:#}"));
        cluster.spread(&all);
    }
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn a_coordinator_that_sleeps_and_wakes_undoes_nothing() {
    let mut cluster = Cluster::start(LEASE);
    let all = coordinators();
    cluster.spread(&all);
    let mut resting: Vec<Resting> = (0..2).map(|_| Resting::start(&cluster)).collect();
    let groups: Vec<String> = (0..6).map(|_| unique("alone")).collect();
    let mut connections: Vec<Connection> = groups.iter().map(|group| cluster.connection(group)).collect();
    let mut offset = 0;
    for name in &all {
        let others: Vec<String> = all.iter().filter(|other| *other != name).cloned().collect();
        cluster.services.signal(name, Signal::STOP).expect("a coordinator");
        // Two commits of one connection, one behind the other: the first of some groups goes to the one that sleeps.
        let mut sent = Vec::new();
        for (group, connection) in groups.iter().zip(&mut connections) {
            for step in [1, 2] {
                let commit = Commit::alone(group).offset(&cluster.topic, 0, offset + step);
                sent.push(connection.send(COMMIT.0, COMMIT.1, &commit.body(COMMIT.1)));
            }
        }
        offset += 2;
        for ((group, connection), sent) in groups.iter().zip(&mut connections).zip(sent.chunks(2)) {
            // Also where the gateway follows the cluster by the one that sleeps, which it does for one of the three.
            for sent in sent {
                let told = committed(&connection.answer(COMMIT.0, COMMIT.1, *sent), COMMIT.1)[0];
                assert_eq!(told, code::NONE, "of {group}, while {name} sleeps");
            }
        }
        eventually("the groups at rest to be somebody's", || resting.iter_mut().all(Resting::is_undisturbed));
        cluster.spread(&others);
        cluster.services.signal(name, Signal::CONT).expect("a coordinator");
        let told = |connections: &mut Vec<Connection>| {
            for (group, connection) in groups.iter().zip(connections) {
                let told = committed_offset(connection, group, &cluster.topic, 0).offset;
                assert_eq!(told, offset, "of {group}, when {name} is awake");
            }
        };
        told(&mut connections);
        // It finds out that it owns nothing, and is given its share again.
        cluster.spread(&all);
        told(&mut connections);
        assert!(resting.iter_mut().all(Resting::is_undisturbed), "{name} is awake, and a group cannot be asked");
    }
}
