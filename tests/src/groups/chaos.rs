//! Groups whose members come, leave, are killed and are paused, while their topics grow and are written to.

mod crew;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::check::check;
use super::history::{Event, What};
use super::member::Protocol;
use crate::clients::{admin_for, config_for, create_on, unique};
use crew::Crew;
use writer::Writer;

/// Partitions in the beginning, and at most.
const PARTITIONS: i32 = 6;
const MOST_PARTITIONS: i32 = 24;

/// How many members a group has at most. Each is a process.
const MOST_MEMBERS: usize = 4;

/// Between two blows, of all groups together.
const BETWEEN: std::ops::Range<u64> = 300..1500;

/// How long a member is paused: beyond the session timeout of the classic protocol, or not.
const PAUSE: std::ops::Range<u64> = 500..15_000;

/// How long a group may take to read all that is left. A member of KIP-848 that was killed is missed after 45 s, where that
/// is not configured.
const CATCH_UP: Duration = Duration::from_secs(180);

const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct Plan {
    pub bootstrap: String,
    pub time: Duration,
    pub seed: u64,
    /// The program `group-member`.
    pub member: PathBuf,
    /// Where histories go.
    pub dir: PathBuf,
    pub protocols: Vec<Protocol>,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    pub fn within(&mut self, range: &std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// Runs the plan, and fails with all rules that were broken. `meanwhile` is called often: it may break what the groups
/// stand on, unless it is told that there is to be peace, and says what it did.
pub fn run(plan: &Plan, mut meanwhile: impl FnMut(bool) -> Option<String>) -> Result<String> {
    let mut random = Random(plan.seed);
    let mut groups = Vec::new();
    for protocol in &plan.protocols {
        groups.push(Group::start(plan, *protocol)?);
    }
    let began = Instant::now();
    let mut next_blow = began + Duration::from_secs(5);
    let mut blows: BTreeMap<String, u32> = BTreeMap::new();
    while began.elapsed() < plan.time {
        std::thread::sleep(TICK);
        if let Some(what) = meanwhile(false) {
            *blows.entry(what).or_default() += 1;
        }
        for group in &mut groups {
            group.crew.resume_due()?;
        }
        if Instant::now() >= next_blow {
            let group = random.below(groups.len() as u64) as usize;
            if let Some(what) = groups[group].blow(&mut random)? {
                *blows.entry(what.to_owned()).or_default() += 1;
            }
            next_blow = Instant::now() + random.within(&BETWEEN);
        }
    }
    let mut report = format!("seed {}, {:.0?}; ", plan.seed, plan.time);
    for (what, count) in blows {
        // Writing to a string cannot fail.
        let _ = write!(report, "{what}: {count}; ");
    }
    let mut broken = Vec::new();
    for group in groups {
        let name = format!("{:?}", group.protocol);
        match group.finish(&mut meanwhile) {
            Ok(found) => {
                let _ = write!(report, "\n{name}: {}", found.summary);
                broken.extend(found.broken.into_iter().map(|rule| format!("{name}: {rule}")));
            }
            Err(error) => broken.push(format!("{name}: {error:#}")),
        }
    }
    if !broken.is_empty() {
        bail!("{report}\nbroken, histories in {}:\n{}", plan.dir.display(), broken.join("\n"));
    }
    Ok(report)
}

struct Group {
    protocol: Protocol,
    topic: String,
    name: String,
    bootstrap: String,
    crew: Crew,
    writer: Writer,
}

struct Found {
    summary: String,
    broken: Vec<String>,
}

impl Group {
    fn start(plan: &Plan, protocol: Protocol) -> Result<Self> {
        let name = unique(&format!("chaos-{protocol:?}").to_lowercase());
        let created = create_on(&admin_for(&plan.bootstrap), &name, PARTITIONS, &[]);
        if let Err(error) = created {
            bail!("the topic is not created: {error}");
        }
        let writer = Writer::start(&plan.bootstrap, &name, PARTITIONS);
        let mut crew = Crew::new(plan, &name, protocol);
        crew.join()?;
        crew.join()?;
        Ok(Self { protocol, topic: name.clone(), name, bootstrap: plan.bootstrap.clone(), crew, writer })
    }

    /// One thing that happens to the group, or nothing where it cannot.
    fn blow(&mut self, random: &mut Random) -> Result<Option<&'static str>> {
        let active = self.crew.active();
        let choice = random.below(10);
        Ok(match choice {
            0..=2 if self.crew.count() < MOST_MEMBERS => {
                self.crew.join()?;
                Some("joined")
            }
            3 | 4 if active > 1 => {
                self.crew.leave(random.below(active as u64) as usize);
                Some("left")
            }
            5 | 6 if active > 1 => {
                self.crew.kill(random.below(active as u64) as usize);
                Some("killed")
            }
            7 | 8 if active > 1 => {
                self.crew.pause(random.below(active as u64) as usize, random.within(&PAUSE))?;
                Some("paused")
            }
            9 if self.writer.partitions() < MOST_PARTITIONS => {
                self.writer.grow(&self.bootstrap).then_some("topic grown")
            }
            _ => None,
        })
    }

    /// Lets the group read to the end in peace, takes it down, and looks at what it has been through.
    fn finish(mut self, meanwhile: &mut impl FnMut(bool) -> Option<String>) -> Result<Found> {
        self.crew.resume_all()?;
        if self.crew.active() == 0 {
            self.crew.join()?;
        }
        while self.writer.is_growing() {
            meanwhile(true);
            std::thread::sleep(TICK);
        }
        let ends = self.writer.finish()?;
        let consumer: BaseConsumer = config_for(&self.bootstrap, &[("group.id", &self.name)]).create()?;
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let committed = committed(&consumer, &self.topic, &ends);
            if committed.as_ref() == Some(&ends) {
                break;
            }
            if Instant::now() > deadline {
                // What is missing, or why, is what the check says.
                eprintln!("{}: committed {committed:?}, not {ends:?}", self.name);
                break;
            }
            meanwhile(true);
            std::thread::sleep(TICK);
        }
        let caught_up = Instant::now() < deadline;
        let events = self.crew.finish()?;
        let mut broken = check(&events, &ends);
        if !caught_up {
            broken.push("the group has not committed all that there is".to_owned());
        }
        let count = |of: fn(&What) -> bool| events.iter().filter(|event| of(&event.what)).count();
        let generations = generations(&events);
        let summary = format!(
            "{} records in {} partitions, {generations} generations, {} assignments, {} lost, {} commits acknowledged, {} uncertain, {} \
             committed offsets asked for",
            ends.values().sum::<i64>(),
            ends.len(),
            count(|what| matches!(what, What::Assigned(_))),
            count(|what| matches!(what, What::Lost(_))),
            count(|what| matches!(what, What::Committed { .. })),
            count(|what| matches!(what, What::Uncertain { .. })),
            count(|what| matches!(what, What::Fetched { .. })),
        );
        Ok(Found { summary, broken })
    }
}

fn generations(events: &[Event]) -> i32 {
    let all = events.iter().filter_map(|event| match event.what {
        What::Owns { generation, .. } => Some(generation),
        _ => None,
    });
    all.max().unwrap_or(0)
}

fn committed(consumer: &BaseConsumer, topic: &str, ends: &BTreeMap<i32, i64>) -> Option<BTreeMap<i32, i64>> {
    let mut list = TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition(topic, *partition);
    }
    let list = consumer.committed_offsets(list, Duration::from_secs(10)).ok()?;
    let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
    Some(list.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect())
}
