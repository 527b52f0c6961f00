//! A member of a group as a program: librdkafka, which writes down all that happens to it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::message::Message as _;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::history::{Log, What, now};
use crate::clients::config_for;

/// How often it commits what it has read, and looks at what it owns.
const COMMIT: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(50);

/// How long a committed offset may take to be told. Coordinators die meanwhile.
const FETCH: Duration = Duration::from_secs(20);

/// How members find their shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// The classic protocol, all partitions given up at each rebalance.
    Range,
    /// The classic protocol, incrementally.
    Cooperative,
    /// KIP-848.
    Consumer,
}

#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    #[arg(long)]
    pub bootstrap: String,
    #[arg(long)]
    pub group: String,
    #[arg(long)]
    pub topic: String,
    #[arg(long)]
    pub protocol: Protocol,
    /// By which its history tells it.
    #[arg(long)]
    pub name: String,
    /// Where its history goes.
    #[arg(long)]
    pub log: PathBuf,
}

/// Reads and commits until standard input ends; then leaves.
pub fn run(options: &Options) -> Result<()> {
    let leaving = Arc::new(AtomicBool::new(false));
    {
        let leaving = Arc::clone(&leaving);
        std::thread::spawn(move || {
            // Whatever it says, it ends with who started us.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            leaving.store(true, Ordering::Relaxed);
        });
    }
    let context = Context { log: Log::create(&options.log, &options.name)?, ..Context::new(options) };
    let consumer: BaseConsumer<Context> = settings(options).create_with_context(context)?;
    consumer.subscribe(&[&options.topic])?;
    let (mut due, mut looked) = (Instant::now(), Instant::now());
    let mut owns = (0, Vec::new());
    while !leaving.load(Ordering::Relaxed) {
        match consumer.poll(LOOK) {
            Some(Ok(message)) => consumer.context().deliver(message.partition(), message.offset()),
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
        consumer.context().ask(&consumer);
        if due.elapsed() >= COMMIT {
            due = Instant::now();
            let all = consumer.context().unsaved(|_| true);
            consumer.context().commit(&consumer, all);
        }
        // Not with each message: it asks a thread of the library, which is slow beside a message.
        if consumer.context().rebalanced.swap(false, Ordering::Relaxed) || looked.elapsed() >= LOOK {
            looked = Instant::now();
            note_owned(&consumer, &mut owns);
        }
    }
    let all = consumer.context().unsaved(|_| true);
    consumer.context().commit(&consumer, all);
    let context = Arc::clone(consumer.context());
    drop(consumer);
    context.log.write(What::Left);
    Ok(())
}

fn settings(options: &Options) -> rdkafka::ClientConfig {
    let mut config = config_for(
        &options.bootstrap,
        &[
            ("group.id", &options.group),
            ("client.id", &options.name),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            // So that new partitions are seen soon.
            ("topic.metadata.refresh.interval.ms", "1000"),
            ("reconnect.backoff.max.ms", "500"),
            ("socket.timeout.ms", "10000"),
            ("fetch.wait.max.ms", "100"),
        ],
    );
    match options.protocol {
        Protocol::Range => config.set("partition.assignment.strategy", "range"),
        Protocol::Cooperative => config.set("partition.assignment.strategy", "cooperative-sticky"),
        Protocol::Consumer => config.set("group.protocol", "consumer"),
    };
    if options.protocol != Protocol::Consumer {
        // The least that brokers grant.
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500");
    }
    config
}

/// Writes down what it owns whenever that, or the generation, is another.
///
/// In the classic protocol a member has nothing in a generation before it is assigned that: what it keeps through a
/// rebalance is of the generation before. A generation that died with its coordinator, before it was assigned anything,
/// is followed by another one of the same number, in Kafka too.
fn note_owned(consumer: &BaseConsumer<Context>, last: &mut (i32, Vec<i32>)) {
    let generation = generation(consumer);
    let context = consumer.context();
    if context.is_classic && context.state.lock().expect("no holder panics").assigned_in != generation {
        return;
    }
    let Ok(assignment) = consumer.assignment() else { return };
    let mut partitions: Vec<i32> = assignment.elements().iter().map(|element| element.partition()).collect();
    partitions.sort_unstable();
    // Both are as of one time only if neither has changed meanwhile.
    if generation < 0 || self::generation(consumer) != generation || (generation, &partitions) == (last.0, &last.1) {
        return;
    }
    consumer.context().log.write(What::Owns { generation, partitions: partitions.clone() });
    *last = (generation, partitions);
}

/// The generation or member epoch, as the library would give it to a transaction.
#[allow(unsafe_code, reason = "the crate has no function for it")]
fn generation(consumer: &BaseConsumer<Context>) -> i32 {
    use rdkafka::bindings::{
        rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
        rd_kafka_consumer_group_metadata_generation_id,
    };
    // SAFETY: the client lives as long as `consumer`, and what is made here is destroyed here.
    unsafe {
        let metadata = rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return -1;
        }
        let generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
        rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    }
}

struct Context {
    log: Log,
    topic: String,
    is_classic: bool,
    state: Mutex<State>,
    commits: AtomicU64,
    /// What it owns is no longer what it was.
    rebalanced: AtomicBool,
}

#[derive(Default)]
struct State {
    /// What was delivered and is not written down: first and last offset.
    delivered: BTreeMap<i32, (i64, i64)>,
    /// Where partitions are to be committed to: a commit that failed is made again, also when nothing more is delivered.
    unsaved: BTreeMap<i32, i64>,
    /// Whose committed offsets are to be asked for.
    fresh: Vec<i32>,
    /// The generation of its last assignment, which may have been of nothing.
    assigned_in: i32,
}

impl Context {
    fn new(options: &Options) -> Self {
        let log = Log::create(&options.log, &options.name).expect("the history can be written");
        let (topic, is_classic) = (options.topic.clone(), options.protocol != Protocol::Consumer);
        let (state, commits, rebalanced) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Self { log, topic, is_classic, state, commits, rebalanced }
    }

    fn deliver(&self, partition: i32, offset: i64) {
        let mut state = self.state.lock().expect("no holder panics");
        let run = state.delivered.entry(partition).or_insert((offset, offset - 1));
        if run.1 + 1 != offset {
            self.log.write(What::Delivered { partition, first: run.0, last: run.1 });
            *run = (offset, offset);
        }
        run.1 = offset;
    }

    /// What was delivered of some partitions and is not committed, after it is written down.
    fn unsaved(&self, of: impl Fn(i32) -> bool) -> Vec<(i32, i64)> {
        let mut state = self.state.lock().expect("no holder panics");
        let State { delivered, unsaved, .. } = &mut *state;
        delivered.retain(|partition, (first, last)| {
            if of(*partition) {
                self.log.write(What::Delivered { partition: *partition, first: *first, last: *last });
                unsaved.insert(*partition, *last + 1);
            }
            !of(*partition)
        });
        unsaved.iter().filter(|(partition, _)| of(**partition)).map(|(at, offset)| (*at, *offset)).collect()
    }

    /// These are its own no more: what is not committed of them is for others to read again.
    fn forget(&self, partitions: &[i32]) {
        self.state.lock().expect("no holder panics").unsaved.retain(|partition, _| !partitions.contains(partition));
    }

    fn commit(&self, consumer: &BaseConsumer<Self>, offsets: Vec<(i32, i64)>) {
        if offsets.is_empty() {
            return;
        }
        let id = self.commits.fetch_add(1, Ordering::Relaxed);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).expect("a valid offset");
        }
        self.log.write(What::Committing { id, offsets: offsets.clone() });
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.log.write(What::Committed { id });
                let mut state = self.state.lock().expect("no holder panics");
                state.unsaved.retain(|partition, offset| !offsets.contains(&(*partition, *offset)));
            }
            Err(error) => {
                self.log.write(What::Uncertain { id });
                eprintln!("commit {id}: {error}");
            }
        }
    }

    /// Asks for the committed offsets of what it has been given.
    fn ask(&self, consumer: &BaseConsumer<Self>) {
        let fresh = std::mem::take(&mut self.state.lock().expect("no holder panics").fresh);
        if fresh.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for partition in &fresh {
            list.add_partition(&self.topic, *partition);
        }
        let began = now();
        match consumer.committed_offsets(list, FETCH) {
            Ok(list) => {
                for element in list.elements() {
                    let offset = if let Offset::Offset(offset) = element.offset() { offset } else { -1 };
                    if element.error().is_ok() {
                        self.log.write(What::Fetched { partition: element.partition(), began, offset });
                    }
                }
            }
            Err(error) => eprintln!("committed offsets: {error}"),
        }
    }
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.rebalanced.store(true, Ordering::Relaxed);
        let partitions = |list: &TopicPartitionList| -> Vec<i32> {
            list.elements().iter().map(|element| element.partition()).collect()
        };
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = partitions(list);
                self.log.write(What::Assigned(partitions.clone()));
                let mut state = self.state.lock().expect("no holder panics");
                state.assigned_in = generation(consumer);
                state.fresh.extend(partitions);
            }
            Rebalance::Revoke(list) => {
                let partitions = partitions(list);
                let offsets = self.unsaved(|partition| partitions.contains(&partition));
                if consumer.assignment_lost() {
                    self.forget(&partitions);
                    self.log.write(What::Lost(partitions));
                } else {
                    self.commit(consumer, offsets);
                    self.forget(&partitions);
                    self.log.write(What::Revoked(partitions));
                }
            }
            Rebalance::Error(error) => eprintln!("rebalance: {error}"),
        }
    }
}
