//! How long one group takes until all its members have their shares of many partitions, once a tenth has come.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tidemark_tests::clients::{eventually, topic, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{await_leaders, code};

use crate::figures::Latencies;

/// Members ask this often, so that it is the server which is measured and not the patience of clients.
const ASK: Duration = Duration::from_millis(10);

/// The default of clients' `heartbeat.interval.ms`.
const CLASSIC_INTERVAL: Duration = Duration::from_secs(3);

/// How soon a member that rests notices that it is to leave.
const NOTICE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    Classic,
    Consumer,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    protocol: Protocol,
    #[arg(long, default_value_t = 10)]
    members: usize,
    #[arg(long, default_value_t = 900)]
    partitions: i32,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Members ask as often as clients do: in the classic protocol every three seconds, else as they are told.
    #[arg(long)]
    as_clients: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let name = topic("rebalance", options.partitions);
    await_leaders(&name, options.partitions);
    let (times, all) = (Latencies::default(), options.members);
    let group = unique("rebalance");
    // What each member owns, as of the last that it was told.
    let counts: Vec<Mutex<usize>> = (0..all).map(|_| Mutex::new(0)).collect();
    let stops: Vec<AtomicBool> = (0..all).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        let start = |number: usize| {
            let (group, name, count, stop) = (&group, &name, &counts[number], &stops[number]);
            stop.store(false, Ordering::Relaxed);
            scope.spawn(move || match options.protocol {
                Protocol::Classic => classic(group, name, options, count, stop),
                Protocol::Consumer => consumer(group, name, options, count, stop),
            })
        };
        let settled = |members: usize| {
            let share = options.partitions as usize / members;
            counts.iter().take(members).all(|count| {
                let count = *count.lock().expect("no holder panics");
                count == share || (count == share + 1 && !(options.partitions as usize).is_multiple_of(members))
            })
        };
        for number in 0..all - 1 {
            start(number);
        }
        for _ in 0..options.rounds {
            eventually("all but one to share", || settled(all - 1));
            let began = Instant::now();
            let last = start(all - 1);
            while !settled(all) {
                std::thread::sleep(Duration::from_micros(500));
            }
            times.since(began);
            stops[all - 1].store(true, Ordering::Relaxed);
            last.join().expect("the last member leaves");
        }
        stops.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
    });
    times.print("rebalance");
    Ok(())
}

/// Waits for the next heartbeat, unless the member is to leave before.
fn rest(options: &Options, as_client: Duration, stop: &AtomicBool) {
    let until = Instant::now() + if options.as_clients { as_client } else { ASK };
    while !stop.load(Ordering::Relaxed) {
        match until.checked_duration_since(Instant::now()) {
            Some(left) => std::thread::sleep(left.min(NOTICE)),
            None => return,
        }
    }
}

fn consumer(group: &str, topic: &str, options: &Options, count: &Mutex<usize>, stop: &AtomicBool) {
    let mut member = Consumer::new(group, &[topic]);
    while !stop.load(Ordering::Relaxed) {
        let before = member.owned.clone();
        let answer = member.beat();
        assert_eq!(answer.error, code::NONE, "{answer:?}");
        *count.lock().expect("no holder panics") = member.count();
        // What has changed is told at once, as clients do.
        if member.owned == before {
            rest(options, Duration::from_millis(answer.interval_ms as u64), stop);
        }
    }
    member.leave(-1);
    *count.lock().expect("no holder panics") = 0;
}

fn classic(group: &str, topic: &str, options: &Options, count: &Mutex<usize>, stop: &AtomicBool) {
    let mut member = Classic::of_topic(group, topic);
    let mut joined = false;
    while !stop.load(Ordering::Relaxed) {
        if joined && member.heartbeat() == code::NONE {
            rest(options, CLASSIC_INTERVAL, stop);
            continue;
        }
        // Eagerly: who joins again owns nothing.
        *count.lock().expect("no holder panics") = 0;
        let answer = member.join();
        assert_eq!(answer.error, code::NONE, "a join");
        let synced = member.sync(&shares(&answer, topic, options.partitions));
        joined = true;
        if synced.error == code::NONE {
            let owned = assigned(&synced.assignment).iter().map(|(_, partitions)| partitions.len()).sum();
            *count.lock().expect("no holder panics") = owned;
        }
    }
    member.leave();
    *count.lock().expect("no holder panics") = 0;
}

/// What a leader gives to each: one partition after the other, in turn. Others have nothing to give.
fn shares(joined: &Joined, topic: &str, partitions: i32) -> Vec<(String, Vec<u8>)> {
    let members = joined.members.len() as i32;
    let share = |at: i32| (0..partitions).filter(|partition| partition % members == at).collect::<Vec<_>>();
    (0..).zip(&joined.members).map(|(at, (member, ..))| (member.clone(), assignment(topic, &share(at)))).collect()
}
