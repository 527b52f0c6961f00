//! Many groups at once, each member at the pace of its protocol.
//!
//! Ten connections carry ten groups, one member of each group on each connection: a member's requests never wait for
//! those of another member of its own group, and thousands of members need hundreds of connections only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidemark_tests::clients::{topic, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{Connection, Writer, await_leaders, code};
use tidemark_tests::target::target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

mod setup;

use crate::etcd::Etcd;
use crate::figures::Latencies;

/// The defaults of clients: `heartbeat.interval.ms`, and what the coordinator tells members of KIP-848.
const CLASSIC_INTERVAL: Duration = Duration::from_secs(3);
const CONSUMER_INTERVAL: Duration = Duration::from_secs(5);

/// Groups that share connections.
const BUNDLE: usize = 10;

/// Bundles that are set up at the same time.
const SETTING_UP: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Of each protocol.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Of all members of the classic groups together; each commits one offset at a time.
    #[arg(long, default_value_t = 10_000)]
    commits_per_second: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where etcd's clients connect, if there is one to be measured.
    #[arg(long)]
    etcd: Option<String>,
}

#[derive(Default)]
struct Counters {
    heartbeats: Latencies,
    commits: Latencies,
    /// Answers with an error, by its code.
    errors: std::sync::Mutex<BTreeMap<i16, u64>>,
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Counters {
    fn note(&self, error: i16) {
        if error != code::NONE {
            *self.errors.lock().expect("no holder panics").entry(error).or_default() += 1;
        }
    }
}

/// A connection whose requests wait for each other.
struct Link {
    stream: TcpStream,
    correlation: i32,
}

impl Link {
    async fn open() -> Result<Self> {
        let address = target().bootstrap.split(',').next().unwrap_or_default();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, correlation: 0 })
    }

    async fn call(&mut self, (key, version): (i16, i16), body: &Writer) -> Result<Vec<u8>> {
        self.correlation += 1;
        self.stream.write_all(&Connection::frame(key, version, self.correlation, &body.bytes)).await?;
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        Ok(Connection::body(key, version, self.correlation, &frame).to_vec())
    }
}

/// A member as it is after the setup.
enum Member {
    Classic(Identity),
    Consumer(ConsumerHeartbeat),
}

/// A connection and the members on it.
type Carrier = (Link, Vec<Member>);

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // As many partitions as a group has members: each has one.
    let name = topic("crowd", options.members as i32);
    let described = await_leaders(&name, options.members as i32);
    let topic = TopicRef { name, id: described.id };
    // The first group of all waits for what a cluster does once.
    drop(coordinator(&unique("first")));
    runtime.block_on(measure(options, &topic))
}

async fn measure(options: &Options, topic: &TopicRef) -> Result<()> {
    let began = Instant::now();
    let carriers = set_up(options, topic).await?;
    println!("setup_ms={}", began.elapsed().as_millis());
    let counters = Arc::new(Counters::default());
    let mut tasks = Vec::new();
    let count = carriers.len() as u32;
    for (number, carrier) in (0..count).zip(carriers) {
        let (counters, topic) = (Arc::clone(&counters), topic.clone());
        let commit_every = (options.commits_per_second > 0).then(|| {
            let committing = options.groups * options.members;
            Duration::from_secs_f64(committing as f64 / f64::from(options.commits_per_second))
        });
        tasks.push(tokio::spawn(async move { carry(carrier, number, count, commit_every, &topic, &counters).await }));
    }
    // The first round of all is not counted.
    tokio::time::sleep(CONSUMER_INTERVAL).await;
    counters.heartbeats.clear();
    counters.commits.clear();
    let etcd = options.etcd.clone().map(|address| {
        let counters = Arc::clone(&counters);
        tokio::task::spawn_blocking(move || beside(&address, &counters))
    });
    // Whoever reads this looks at the servers now, and at the end again.
    println!("begin");
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    println!("end");
    let took = began.elapsed().as_secs_f64();
    counters.heartbeats.print("heartbeat");
    counters.commits.print("commit");
    println!("seconds={took:.2}");
    println!("requests={}", counters.sent.load(Ordering::Relaxed));
    counters.stop.store(true, Ordering::Relaxed);
    if let Some(etcd) = etcd {
        etcd.await??;
    }
    for task in tasks {
        task.await??;
    }
    let errors = counters.errors.lock().expect("no holder panics").clone();
    println!("errors={}", errors.values().sum::<u64>());
    ensure!(errors.is_empty(), "answers with errors, by code: {errors:?}");
    Ok(())
}

/// Single puts meanwhile, and how many transactions etcd has done.
fn beside(address: &str, counters: &Counters) -> Result<()> {
    let mut etcd = Etcd::connect(address)?;
    let puts = Latencies::default();
    let (before, began) = (etcd.transactions()?, Instant::now());
    etcd.puts(&puts, || counters.stop.load(Ordering::Relaxed))?;
    println!("etcd_txn_per_s={:.1}", (etcd.transactions()? - before) / began.elapsed().as_secs_f64());
    puts.print("etcd_put");
    Ok(())
}

async fn set_up(options: &Options, topic: &TopicRef) -> Result<Vec<Carrier>> {
    let bundles = options.groups.div_ceil(BUNDLE);
    let permits = Arc::new(tokio::sync::Semaphore::new(SETTING_UP));
    let mut tasks = Vec::new();
    for (number, classic) in (0..bundles).flat_map(|number| [(number, true), (number, false)]) {
        let (permits, topic, members) = (Arc::clone(&permits), topic.clone(), options.members);
        let groups = BUNDLE.min(options.groups - number * BUNDLE);
        tasks.push(tokio::spawn(async move {
            let _permit = permits.acquire_owned().await?;
            bundle(groups, members, classic, &topic).await
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

async fn bundle(groups: usize, members: usize, classic: bool, topic: &TopicRef) -> Result<Vec<Carrier>> {
    let mut carriers = Vec::new();
    for _ in 0..members {
        carriers.push((Link::open().await?, Vec::new()));
    }
    for _ in 0..groups {
        let group = unique("crowd");
        if classic {
            setup::classic(&group, &mut carriers, topic).await?;
        } else {
            setup::consumer(&group, &mut carriers, topic).await?;
        }
    }
    Ok(carriers)
}

/// Heartbeats and commits of the members of one connection, each at its time.
async fn carry(
    (mut link, mut members): Carrier,
    number: u32,
    count: u32,
    commit_every: Option<Duration>,
    topic: &TopicRef,
    counters: &Counters,
) -> Result<()> {
    let classic = matches!(members.first(), Some(Member::Classic(_)));
    let interval = if classic { CLASSIC_INTERVAL } else { CONSUMER_INTERVAL };
    let each = interval / members.len() as u32;
    // Spread over the interval, as members are that came at different times.
    let began = Instant::now() + each * number / count;
    let mut heartbeats = (0_u32..).map(|n| began + each * n).peekable();
    // All members of the classic groups commit in turn.
    let commit_each = commit_every.filter(|_| classic).map(|every| every / members.len() as u32);
    let mut next_commit = commit_each.map(|each| began + each * number / count);
    let (mut beating, mut committing, mut offset) = (0, 0, 0_i64);
    while !counters.stop.load(Ordering::Relaxed) {
        let beat_at = *heartbeats.peek().expect("it has no end");
        let due = next_commit.map_or(beat_at, |commit| commit.min(beat_at));
        tokio::time::sleep_until(due.into()).await;
        counters.sent.fetch_add(1, Ordering::Relaxed);
        // From when it was due: a server that is behind is not waited for.
        if due == beat_at {
            heartbeats.next();
            beating = (beating + 1) % members.len();
            counters.note(beat(&mut link, &mut members[beating]).await?);
            counters.heartbeats.since(due);
        } else {
            next_commit = next_commit.zip(commit_each).map(|(last, each)| last + each);
            committing = (committing + 1) % members.len();
            offset += 1;
            if let Member::Classic(who) = &members[committing] {
                let commit = Commit { who: who.clone(), topics: Vec::new() }.offset(topic, 0, offset);
                let answer = link.call(COMMIT, &commit.body(COMMIT.1)).await?;
                committed(&answer, COMMIT.1).into_iter().for_each(|error| counters.note(error));
                counters.commits.since(due);
            }
        }
    }
    Ok(())
}

/// A heartbeat of a member that has nothing to say.
async fn beat(link: &mut Link, member: &mut Member) -> Result<i16> {
    Ok(match member {
        Member::Classic(who) => beaten(&link.call(HEARTBEAT, &heartbeat_body(HEARTBEAT.1, who)).await?, HEARTBEAT.1),
        Member::Consumer(heartbeat) => {
            let answer = link.call(CONSUMER_HEARTBEAT, &heartbeat.body(CONSUMER_HEARTBEAT.1)).await?;
            let answer = consumer_heartbeat_answer(&answer, CONSUMER_HEARTBEAT.1);
            if answer.error == code::NONE {
                heartbeat.epoch = answer.epoch;
            }
            answer.error
        }
    })
}
