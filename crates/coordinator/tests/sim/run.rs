//! One run: groups form, coordinators die and nobody in a group notices; then a storm; then calm, and what must be true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_coordinator::GroupSettings;
use tidemark_model::group::{FetchOffsets, GroupAnswer, GroupCall, GroupRequest};
use tidemark_model::route;
use tidemark_segment::testing::sim::{self, Chance, Report, Trace};
use tokio::time::{Instant, sleep, timeout};

use crate::coordinators::{Coordinators, LEASE, Life};
use crate::gateway::GATEWAYS;
use crate::member::Leave;
use crate::store::Weather;
use crate::world::{Crew, Kind, Member, World};

/// How long groups may take to form, and to read all that is left.
const FORMING: Duration = Duration::from_secs(30);
const CLOSING: Duration = Duration::from_secs(120);
/// How long a slot may be without an owner after the death of one: its lease, and a second.
const TAKEOVER: Duration = LEASE.saturating_add(Duration::from_secs(1));
/// A second more for the members to say so, and the time that calls are under way.
const NOTICED: Duration = Duration::from_millis(1_500);
/// How long a static member may take to go, and to be back.
const RETURN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

type Checked<T = ()> = Result<T, String>;

/// Many times what a run has that comes to its end.
const MOST_LINES: usize = 200_000;

/// Runs a seed.
pub fn simulate(seed: u64) -> Report {
    sim::run(seed, MOST_LINES, |trace| trace, async |trace| run(seed, trace).await)
}

async fn run(seed: u64, trace: &Trace) -> Checked {
    let chance = Chance::of(seed, 2);
    let ms = Duration::from_millis;
    let groups = GroupSettings {
        min_session_timeout: ms(1_000),
        initial_rebalance_delay: chance.pick(&[ms(0), ms(500)]),
        consumer_session_timeout: ms(6_000),
        consumer_heartbeat_interval: ms(1_000),
        ..GroupSettings::default()
    };
    let coordinators = Arc::new(Coordinators::new(seed, trace, groups));
    for at in 0..chance.pick(&[1, 2, 3, 3]) {
        coordinators.boot(&format!("c{at}"));
    }
    let world = timeout(FORMING, World::new(seed, coordinators)).await.map_err(|_| "no topics are created")??;
    for crew in &world.crews {
        for _ in 0..1 + chance.below(3) {
            world.join(crew);
        }
    }
    let story = async {
        quiet(&world, &chance).await?;
        tokio::select! {
            biased;
            done = storm(&world, &chance) => done,
            () = tellers(&world) => Ok(()),
        }
    };
    tokio::select! {
        biased;
        told = story => told?,
        () = world.write() => {}
    }
    calm(&world).await?;
    right(&world)
}

fn right(world: &World) -> Checked {
    world.trace.anything_wrong().map_or(Ok(()), Err)
}

/// Groups form. Then coordinators die, one after the other, and the groups stay as they are.
async fn quiet(world: &Arc<World>, chance: &Chance) -> Checked {
    let began = Instant::now();
    // Two seconds without a new generation: nobody is about to join again.
    let mut before = None;
    while before.as_ref() != Some(&generations(world)) || !world.crews.iter().all(|crew| crew.group.is_read()) {
        before = Some(generations(world));
        sleep(Duration::from_secs(2)).await;
        right(world)?;
        if began.elapsed() > FORMING {
            return Err(format!("the groups do not form: {before:?}"));
        }
    }
    let names: Vec<String> = world.coordinators.alive().iter().map(|life| life.name.clone()).collect();
    for _ in 0..chance.below(3) {
        let name = &names[chance.below(names.len() as u64) as usize];
        let Some(life) = world.coordinators.life(name) else { continue };
        if chance.one_in(4) {
            world.trace.note(format_args!("{name} is shut down in peace"));
            world.trace.count("clean shutdowns in peace");
            life.shut_down().await;
        } else {
            world.trace.note(format_args!("{name} is killed in peace"));
            world.trace.count("deaths in peace");
            life.kill();
        }
        if names.len() == 1 {
            sleep(chance.up_to(LEASE)).await;
            world.coordinators.boot(name);
        }
        let died = Instant::now();
        for crew in &world.crews {
            if timeout(TAKEOVER + NOTICED, ask(world, crew)).await.is_err() {
                world.note_store().await;
                return Err(format!("nobody answers for {} after {:?}", crew.group.name, died.elapsed()));
            }
        }
        if world.coordinators.life(name).is_none() {
            world.coordinators.boot(name);
        }
        sleep(Duration::from_secs(4)).await;
        right(world)?;
        if before != Some(generations(world)) {
            return Err(format!("a coordinator's death is noticed: {before:?} is now {:?}", generations(world)));
        }
        world.trace.count("groups that outlived their coordinator undisturbed");
    }
    returns(world).await?;
    if before != Some(generations(world)) {
        return Err(format!("a static member's return is noticed: {before:?} is now {:?}", generations(world)));
    }
    Ok(())
}

/// Static members go and come back as another process, to what they had.
async fn returns(world: &Arc<World>) -> Checked {
    for crew in &world.crews {
        let Some(member) =
            crew.all().into_iter().find(|member| member.instance.is_some() && crew.is_alone_with_its_id(member))
        else {
            continue;
        };
        world.trace.note(format_args!("{}: a static member leaves and comes back in peace", crew.group.name));
        member.leave(Leave::ForNow);
        timeout(RETURN, member.process.dead.cancelled()).await.map_err(|_| "it does not leave")?;
        world.come_back(crew, &member, true);
        let is_back = async {
            while !crew.group.is_read() {
                sleep(LOOK).await;
            }
        };
        if timeout(RETURN, is_back).await.is_err() {
            return Err(format!("{}: a static member that is back gets nothing", crew.group.name));
        }
        right(world)?;
        world.trace.count("static members that came back undisturbed");
    }
    // Whoever is to join again hears of it.
    sleep(Duration::from_secs(2)).await;
    right(world)
}

fn generations(world: &World) -> Vec<i32> {
    world.crews.iter().map(|crew| crew.group.generation()).collect()
}

/// Asks for a group's offsets until they are told.
async fn ask(world: &World, crew: &Crew) -> Vec<(i32, Option<i64>)> {
    loop {
        let partitions = crew.group.partitions();
        let floors: Vec<i64> = partitions.iter().map(|partition| crew.group.floor(*partition)).collect();
        let request = FetchOffsets { member_id: None, member_epoch: -1, topics: None, require_stable: true };
        let call = GroupCall {
            group: crew.group.name.to_string(),
            client_id: "teller".to_owned(),
            client_host: "/sim".to_owned(),
            request: GroupRequest::FetchOffsets(request),
        };
        if let Ok(GroupAnswer::FetchOffsets(fetched)) = world.any_gateway().ask(call).await {
            let mut told: BTreeMap<i32, Option<i64>> = partitions.iter().map(|at| (*at, None)).collect();
            for fetched in fetched {
                let offset = fetched.result.ok().flatten().map(|committed| committed.offset);
                told.insert(fetched.partition.partition, offset);
            }
            for (partition, floor) in partitions.iter().zip(floors) {
                crew.group.fetched("teller", *partition, floor, told.get(partition).copied().flatten());
            }
            return told.into_iter().collect();
        }
        sleep(LOOK).await;
    }
}

/// Somebody asks for offsets all the time, by any gateway.
async fn tellers(world: &Arc<World>) {
    loop {
        for crew in &world.crews {
            sleep(world.chance.up_to(4 * LOOK)).await;
            let world = Arc::clone(world);
            let kind = crew.kind;
            tokio::spawn(async move {
                if let Some(crew) = world.crews.iter().find(|crew| crew.kind == kind) {
                    ask(&world, crew).await;
                }
            });
        }
    }
}

async fn storm(world: &Arc<World>, chance: &Chance) -> Checked {
    world.trace.note(format_args!("the storm begins"));
    let until = Instant::now() + Duration::from_secs(8) + chance.up_to(Duration::from_secs(12));
    while Instant::now() < until {
        sleep(chance.up_to(Duration::from_millis(500))).await;
        right(world)?;
        match chance.below(10) {
            0..=4 => befall_members(world, chance).await,
            5..=7 => befall_coordinators(world, chance).await,
            _ => befall_store(world, chance),
        }
    }
    Ok(())
}

async fn befall_members(world: &Arc<World>, chance: &Chance) {
    let crew = &world.crews[chance.below(world.crews.len() as u64) as usize];
    let active = crew.active();
    let any = (!active.is_empty()).then(|| Arc::clone(&active[chance.below(active.len() as u64) as usize]));
    let name = &crew.group.name;
    match (chance.below(10), any) {
        (0..=2, _) | (_, None) => drop(world.join(crew)),
        (3, Some(member)) => {
            world.trace.note(format_args!("{name}: somebody is to leave"));
            world.trace.count("members that left");
            member.leave(Leave::ForGood);
        }
        (4, Some(member)) if member.instance.is_some() => restart(world, crew, &member, chance),
        (4 | 5, Some(member)) => {
            world.trace.note(format_args!("{name}: somebody is killed"));
            world.trace.count("members killed");
            member.process.kill();
            if crew.kind == Kind::Alone {
                world.join(crew);
            }
        }
        (6 | 7, Some(member)) => {
            let time = chance.up_to(Duration::from_secs(12));
            world.trace.note(format_args!("{name}: somebody is paused for {time:?}"));
            world.trace.count("members paused");
            member.process.pause();
            tokio::spawn(async move {
                sleep(time).await;
                member.process.resume();
            });
        }
        _ => world.grow(crew).await,
    }
}

/// A static member goes, or dies, or stays where it is, and comes back after a while.
fn restart(world: &Arc<World>, crew: &Crew, member: &Arc<Member>, chance: &Chance) {
    let (name, time) = (Arc::clone(&crew.group.name), chance.up_to(Duration::from_secs(8)));
    match chance.below(3) {
        0 => {
            world.trace.note(format_args!("{name}: a static member leaves for {time:?}"));
            member.leave(Leave::ForNow);
        }
        1 => {
            world.trace.note(format_args!("{name}: a static member is killed for {time:?}"));
            member.process.kill();
        }
        _ => {
            world.trace.note(format_args!("{name}: a static member will be there twice in {time:?}"));
        }
    }
    world.trace.count("static members restarted");
    let (world, member, kind) = (Arc::clone(world), Arc::clone(member), crew.kind);
    tokio::spawn(async move {
        sleep(time).await;
        if let Some(crew) = world.crews.iter().find(|crew| crew.kind == kind) {
            world.come_back(crew, &member, false);
        }
    });
}

async fn befall_coordinators(world: &Arc<World>, chance: &Chance) {
    let mut alive = world.coordinators.alive();
    alive.retain(|life| !life.process.is_paused());
    if alive.is_empty() {
        return;
    }
    let life = alive.swap_remove(chance.below(alive.len() as u64) as usize);
    let name = life.name.clone();
    let (time, world) = (chance.up_to(Duration::from_secs(4)), Arc::clone(world));
    match chance.below(8) {
        0..=2 => {
            world.trace.note(format_args!("{name} is killed for {time:?}"));
            world.trace.count("coordinators killed");
            life.kill();
            tokio::spawn(async move {
                sleep(time).await;
                world.coordinators.boot(&life.name);
            });
        }
        3 => {
            world.trace.note(format_args!("{name} is shut down for {time:?}"));
            world.trace.count("coordinators shut down");
            tokio::spawn(async move {
                life.shut_down().await;
                sleep(time).await;
                // It may have been killed meanwhile, and be back.
                if world.coordinators.life(&life.name).is_none() {
                    world.coordinators.boot(&life.name);
                }
            });
        }
        4 | 5 => {
            let time = time + time / 2;
            world.trace.note(format_args!("{name} is paused for {time:?}"));
            world.trace.count("coordinators paused");
            life.process.pause();
            tokio::spawn(async move {
                sleep(time).await;
                world.trace.note(format_args!("{name} goes on"));
                life.process.resume();
            });
        }
        6 => {
            world.trace.note(format_args!("{name} does not reach the store for {time:?}"));
            world.trace.count("coordinators cut off from the store");
            life.line.set_cut(true);
            if chance.one_in(2) {
                // A lease is no promise: others may take over before it knows.
                world.trace.note(format_args!("and its leases are over"));
                life.line.lose_leases().await;
            }
            tokio::spawn(async move {
                sleep(time).await;
                life.line.set_cut(false);
            });
        }
        _ if chance.one_in(2) => {
            world.trace.note(format_args!("{name} loses its leases"));
            world.trace.count("leases lost");
            life.line.lose_leases().await;
        }
        _ => {
            world.trace.note(format_args!("the connection to {name} breaks"));
            life.break_stream(chance.below(GATEWAYS as u64) as usize);
        }
    }
}

fn befall_store(world: &Arc<World>, chance: &Chance) {
    if chance.one_in(6) {
        world.trace.note(format_args!("store: the history is forgotten"));
        world.coordinators.store.forget();
        return;
    }
    let weather = chance.pick(&[Weather::Fine, Weather::Flaky, Weather::Flaky, Weather::Slow, Weather::Gone]);
    let time = match weather {
        Weather::Gone => chance.up_to(Duration::from_secs(3)),
        _ => chance.up_to(Duration::from_secs(8)),
    };
    world.trace.note(format_args!("store: {weather:?}"));
    let sky = Arc::clone(&world.coordinators.sky);
    sky.set(weather);
    tokio::spawn(async move {
        sleep(time).await;
        sky.set(Weather::Fine);
    });
}

/// All is well around the groups from now on: they read all that there is, and say so.
async fn calm(world: &Arc<World>) -> Checked {
    world.trace.note(format_args!("all is calm"));
    world.coordinators.sky.set(Weather::Fine);
    // What was begun for a time ends by itself, within seconds.
    let began = Instant::now();
    for crew in &world.crews {
        crew.all().iter().for_each(|member| member.process.resume());
        if crew.active().is_empty() {
            world.join(crew);
        }
    }
    for crew in &world.crews {
        loop {
            right(world)?;
            if crew.active().is_empty() {
                world.join(crew);
            }
            let wanted: Vec<(i32, i64)> =
                crew.group.partitions().into_iter().map(|at| (at, crew.group.end(at))).collect();
            let committed = timeout(CLOSING, ask(world, crew)).await.unwrap_or_default();
            let committed: Vec<(i32, i64)> =
                committed.into_iter().map(|(at, offset)| (at, offset.unwrap_or(0))).collect();
            if committed == wanted {
                break;
            }
            if began.elapsed() > CLOSING {
                world.note_store().await;
                return Err(format!("{} has committed {committed:?}, not {wanted:?}", crew.group.name));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
    // And all of it is in the store: those who come after find it.
    let before: Vec<Arc<Life>> = world.coordinators.alive();
    for life in before {
        life.kill();
        world.coordinators.boot(&life.name);
    }
    for crew in &world.crews {
        let committed = timeout(CLOSING, ask(world, crew)).await.map_err(|_| "nobody answers in the end")?;
        for (partition, offset) in committed {
            if offset.unwrap_or(0) != crew.group.end(partition) {
                return Err(format!("{}: partition {partition} is at {offset:?} in the end", crew.group.name));
            }
        }
    }
    let listed = world.crews.iter().filter(|crew| route::slot_for(&crew.group.name).0 < route::SLOTS).count();
    world.trace.note(format_args!("{listed} groups have read all"));
    right(world)
}
