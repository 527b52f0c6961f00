//! One run: a node, its clients, and what befalls them; then calm, and what must be true.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{Batch, TopicPartition};
use tidemark_segment::testing::Request;
use tidemark_segment::testing::sim::{self, Chance, Report};
use tidemark_segment::{Bucket, JournalKeys};
use tidemark_storage::disk::sim::Odds;
use tidemark_storage::{checkpoint, folds};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::model::Checked;
use crate::producers::{Idempotent, Plain};
use crate::readers::{Deleter, Reader, Tail, read};
use crate::store::{CrashAt, Weather};
use crate::world::{End, JOURNAL, World};

/// How long a node may be of no use while nothing around it fails, before somebody starts it again.
const UNHEALTHY: Duration = Duration::from_secs(4);
/// How long clients may take to end once all is calm.
const CLOSING: Duration = Duration::from_secs(300);
/// How long objects may come and go: a merge waits ten minutes for more, one leads to another, and each time a checkpoint
/// has to follow.
const CLEANING: Duration = Duration::from_secs(3 * 3_600);

/// Many times what a run has that comes to its end.
const MOST_LINES: usize = 100_000;

/// Runs a seed.
pub fn simulate(seed: u64) -> Report {
    sim::run(seed, MOST_LINES, |trace| World::new(seed, trace), async |world| run(world, seed).await)
}

async fn run(world: &Arc<World>, seed: u64) -> Checked {
    for _ in 0..3 {
        world.create_topic();
    }
    world.boot().await?;
    let mut clients = clients(world, seed);
    let ended = tokio::select! {
        biased;
        failed = first_failure(&mut clients) => Err(failed),
        ended = events(world) => ended,
    };
    ended?;
    world.calm();
    world.closing.cancel();
    let ended = tokio::select! {
        biased;
        ended = all_end(&mut clients) => ended,
        ended = nurse(world, CLOSING) => ended.and(Err("clients do not come to an end".into())),
    };
    ended?;
    check_all(world, true).await?;
    world.down(End::PowerLoss).await;
    world.boot().await?;
    check_all(world, true).await?;
    check_objects(world).await?;
    world.down(End::Shutdown).await;
    world.boot().await?;
    check_all(world, true).await?;
    match world.trace.anything_wrong() {
        None => Ok(()),
        Some(wrong) => Err(wrong),
    }
}

fn clients(world: &Arc<World>, seed: u64) -> JoinSet<Checked> {
    let mut clients = JoinSet::new();
    let mut part = 10;
    let mut chance = || {
        part += 1;
        (Chance::of(seed, part), part as u32)
    };
    for _ in 0..3 {
        let (chance, name) = chance();
        clients.spawn(Idempotent::new(world.clone(), chance, name).run());
    }
    for _ in 0..2 {
        let (chance, name) = chance();
        clients.spawn(Plain::new(world.clone(), chance, name).run());
    }
    for _ in 0..2 {
        clients.spawn(Reader { world: world.clone(), chance: chance().0 }.run());
        clients.spawn(Tail { world: world.clone(), chance: chance().0 }.run());
    }
    clients.spawn(Deleter { world: world.clone(), chance: chance().0 }.run());
    clients
}

async fn first_failure(clients: &mut JoinSet<Checked>) -> String {
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return wrong,
            Err(error) => return format!("a client: {error}"),
        }
    }
    std::future::pending().await
}

async fn all_end(clients: &mut JoinSet<Checked>) -> Checked {
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| format!("a client: {error}"))??;
    }
    Ok(())
}

/// What befalls the node.
async fn events(world: &World) -> Checked {
    let chance = &world.chance;
    let until = Instant::now() + Duration::from_secs(15) + chance.up_to(Duration::from_secs(15));
    while Instant::now() < until {
        let end = one_life(world).await;
        world.down(end).await;
        sleep(chance.up_to(Duration::from_millis(500))).await;
        world.boot().await?;
        if chance.one_in(2) {
            check_all(world, false).await?;
        }
        if let Some(wrong) = world.trace.anything_wrong() {
            return Err(wrong);
        }
    }
    Ok(())
}

/// Lives until something ends it.
async fn one_life(world: &World) -> End {
    let chance = &world.chance;
    let mut crashes = world.disk.crashes();
    crashes.mark_unchanged();
    let until = Instant::now() + chance.up_to(Duration::from_secs(6));
    let end = chance.pick(&[End::PowerLoss, End::PowerLoss, End::Kill, End::Shutdown]);
    match chance.below(4) {
        0 => world.disk.lose_power_in(Some(chance.below(100))),
        1 => {
            let at = chance.pick(&[CrashAt::Before, CrashAt::After, CrashAt::After]);
            let request = chance.pick(&[Request::Put, Request::Put, Request::Put, Request::Delete, Request::List]);
            world.skies.crash_at(Some((at, request)));
        }
        _ => {}
    }
    let mut unhealthy = None;
    loop {
        tokio::select! {
            biased;
            _ = crashes.changed() => return End::Happened,
            () = world.skies.crash.notified() => return chance.pick(&[End::PowerLoss, End::Kill]),
            () = sleep(chance.up_to(Duration::from_millis(700))) => {}
        }
        unhealthy = still_unhealthy(world, unhealthy);
        if unhealthy.is_some_and(|since| since + UNHEALTHY < Instant::now()) {
            world.trace.count("restarts of a node that had ended");
            return end;
        }
        if Instant::now() >= until {
            return end;
        }
        something_happens(world);
    }
}

fn something_happens(world: &World) {
    let chance = &world.chance;
    match chance.below(12) {
        0 => {
            let odds = Odds {
                create: chance.pick(&[0, 3]),
                write: chance.pick(&[0, 10, 40]),
                sync: chance.pick(&[0, 0, 100]),
                read: chance.pick(&[0, 0, 20]),
            };
            world.trace.note(format_args!("disk: {odds:?}"));
            world.disk.set_odds(odds);
        }
        1 => world.disk.set_odds(Odds::default()),
        2 => {
            let capacity = chance.pick(&[None, None, Some(100 << 10), Some(300 << 10)]);
            world.trace.note(format_args!("disk: capacity {capacity:?}"));
            world.disk.set_capacity(capacity);
        }
        3 | 4 => world.skies.set(chance.pick(&[Weather::Fine, Weather::Flaky, Weather::Slow, Weather::Gone])),
        5 => world.skies.set(Weather::Fine),
        6 => world.records.set_fails(chance.pick(&[0, 0, 2, 4])),
        7 if chance.one_in(2) => world.create_topic(),
        8 if chance.one_in(4) => {
            let all = world.partitions();
            if !all.is_empty() {
                world.delete_topic(chance.pick(&all).topic);
            }
        }
        _ => {}
    }
}

/// Since when the node takes no appends.
fn still_unhealthy(world: &World, since: Option<Instant>) -> Option<Instant> {
    let life = world.life()?;
    if life.service.wal_health().borrow().is_ok() { None } else { since.or_else(|| Some(Instant::now())) }
}

/// Starts the node again when it needs that, for as long as it is given.
async fn nurse(world: &World, time: Duration) -> Checked {
    let until = Instant::now() + time;
    let mut unhealthy = None;
    while Instant::now() < until {
        sleep(Duration::from_secs(1)).await;
        unhealthy = still_unhealthy(world, unhealthy);
        if unhealthy.is_some_and(|since| since + UNHEALTHY < Instant::now()) {
            world.down(End::Kill).await;
            world.boot().await?;
            unhealthy = None;
        }
    }
    Ok(())
}

/// Reads every partition from its beginning to its end. `calm`: then it must be possible.
async fn check_all(world: &World, calm: bool) -> Checked {
    let bucket = world.bucket();
    for at in world.partitions() {
        let mut read = false;
        // The log start may move meanwhile.
        for _ in 0..if calm { 10 } else { 2 } {
            read = read || check_one(world, &bucket, at).await?;
        }
        if calm && !read {
            return Err(format!("{at} cannot be read"));
        }
    }
    Ok(())
}

/// Whether it could be read.
async fn check_one(world: &World, bucket: &Bucket, at: TopicPartition) -> Checked<bool> {
    let life = world.alive().await;
    let from = world.model().floor(at).log_start;
    let mut offset = from;
    let mut batches: Vec<Batch> = Vec::new();
    let bounds = loop {
        let Some((more, bounds)) = read(world, &life, bucket, at, offset).await? else { return Ok(false) };
        let Some(last) = more.last() else { break bounds };
        offset = last.next_offset();
        batches.extend(more);
    };
    let count = world.model().read_all(at, from, &batches, bounds)?;
    world.trace.note(format_args!("checked: {at} has {count} batches to {offset}"));
    world.trace.count("partitions checked");
    Ok(true)
}

/// Waits until the object store has what the node's state refers to, and nothing else.
async fn check_objects(world: &World) -> Checked {
    let bucket = world.bucket();
    let keys = JournalKeys::new("cluster", JOURNAL).map_err(|error| error.to_string())?;
    let until = Instant::now() + CLEANING;
    loop {
        let newest = checkpoint::newest(&bucket, &keys).await.map_err(|error| error.to_string())?;
        let mut referred = Vec::new();
        if let Some((_, state)) = newest.found {
            for partition in state.partitions.values().filter(|partition| !partition.folds.is_empty()) {
                world.trace.count("partitions with folds");
                if partition.folds.iter().any(|fold| fold.level > 0) {
                    world.trace.count("partitions with folds of folds");
                }
                if partition.folds.iter().any(|fold| fold.opened > fold.first_offset) {
                    world.trace.count("partitions with a fold that was opened");
                }
            }
            let objects = folds::objects(&bucket, &keys, &state).await.map_err(|error| error.to_string())?;
            referred.extend(objects.into_iter().map(|name| keys.segment(name)));
            referred.extend(newest.parts.iter().map(|part| keys.checkpoint(part.name)));
            if newest.parts.len() > 1 {
                world.trace.count("checkpoints that build on others");
            }
        }
        referred.sort();
        let there = bucket.list("cluster").await.map_err(|error| error.to_string())?;
        let mut there: Vec<String> = there.into_iter().map(|object| object.key).collect();
        there.sort();
        if there == referred {
            world.trace.note(format_args!("checked: {} objects", there.len()));
            return Ok(());
        }
        if Instant::now() >= until {
            let beyond: Vec<_> = there.iter().filter(|key| !referred.contains(key)).collect();
            let missing: Vec<_> = referred.iter().filter(|key| !there.contains(key)).collect();
            return Err(format!("nothing refers to these objects: {beyond:?}; and these are missing: {missing:?}"));
        }
        sleep(Duration::from_secs(20)).await;
        if let Some(life) = world.life()
            && let Err(why) = &*life.service.wal_health().borrow()
        {
            return Err(format!("all is calm, and the node is not well: {why}"));
        }
    }
}
