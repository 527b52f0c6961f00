//! What must never have happened to a group, whatever broke.
//!
//! - A partition has one owner in a generation, or at a member epoch.
//! - Members that nobody disturbed never own a partition at the same time. Who was paused, killed or told that its
//!   assignment is lost may have believed for a while that it still owned something; the generation fences it.
//! - Who asks for a committed offset is told one that was acknowledged last, or of a commit whose outcome is not known.
//! - Committed offsets never go back, and nobody begins to read below what was committed before it owned the partition.
//! - Every record is delivered to somebody.
//!
//! Times are taken before something begins and after it has ended, so a history that breaks a rule really breaks it.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Event, What};

/// All rules that were broken, in words. `ends` are the ends of the partitions, all of which was to be delivered.
pub fn check(events: &[Event], ends: &BTreeMap<i32, i64>) -> Vec<String> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.at);
    let mut broken = one_owner_in_a_generation(&events);
    broken.extend(one_owner_at_a_time(&events));
    let commits = commits(&events);
    broken.extend(commits_go_forward(&commits));
    broken.extend(commits_are_found(&events, &commits));
    broken.extend(nobody_starts_below_a_commit(&events, &commits));
    broken.extend(all_is_delivered(&events, ends));
    broken
}

fn one_owner_in_a_generation(events: &[&Event]) -> Vec<String> {
    let mut owners: BTreeMap<(i32, i32), BTreeSet<&str>> = BTreeMap::new();
    for event in events {
        if let What::Owns { generation, partitions } = &event.what {
            for partition in partitions {
                owners.entry((*generation, *partition)).or_default().insert(&event.member);
            }
        }
    }
    let doubled = owners.into_iter().filter(|(_, members)| members.len() > 1);
    doubled
        .map(|((generation, partition), members)| {
            format!("partition {partition} had several owners in generation {generation}: {members:?}")
        })
        .collect()
}

/// Who owned a partition from when to when.
struct Owned<'a> {
    member: &'a str,
    partition: i32,
    from: u64,
    to: u64,
}

fn owned<'a>(events: &[&'a Event]) -> Vec<Owned<'a>> {
    let mut open: BTreeMap<(&str, i32), u64> = BTreeMap::new();
    let mut all = Vec::new();
    let mut close = |open: &mut BTreeMap<(&'a str, i32), u64>, member: &'a str, partition, to| {
        if let Some(from) = open.remove(&(member, partition)) {
            all.push(Owned { member, partition, from, to });
        }
    };
    for event in events {
        let member = event.member.as_str();
        match &event.what {
            What::Assigned(partitions) => {
                for partition in partitions {
                    open.insert((member, *partition), event.at);
                }
            }
            What::Revoked(partitions) => {
                partitions.iter().for_each(|partition| close(&mut open, member, *partition, event.at));
            }
            // Until when it was its own, it cannot tell.
            What::Lost(partitions) => {
                for partition in partitions {
                    open.remove(&(member, *partition));
                }
            }
            What::Paused | What::Killed | What::Left => {
                let its: Vec<i32> =
                    open.keys().filter(|(of, _)| *of == member).map(|(_, partition)| *partition).collect();
                its.into_iter().for_each(|partition| close(&mut open, member, partition, event.at));
            }
            _ => {}
        }
    }
    let still: Vec<(&str, i32)> = open.keys().copied().collect();
    still.into_iter().for_each(|(member, partition)| close(&mut open, member, partition, u64::MAX));
    all
}

fn one_owner_at_a_time(events: &[&Event]) -> Vec<String> {
    let mut all = owned(events);
    all.sort_by_key(|owned| (owned.partition, owned.from));
    let mut broken = Vec::new();
    let mut last: Option<&Owned<'_>> = None;
    for owned in &all {
        if let Some(before) = last.filter(|before| before.partition == owned.partition) {
            if before.member != owned.member && owned.from < before.to {
                broken.push(format!(
                    "partition {} was given to {} at {}, and {} owned it from {} to {}",
                    owned.partition, owned.member, owned.from, before.member, before.from, before.to
                ));
            }
            if before.to > owned.to {
                continue;
            }
        }
        last = Some(owned);
    }
    broken
}

/// A commit of one partition.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "who made it is shown where a rule is broken")]
struct Commit<'a> {
    member: &'a str,
    partition: i32,
    offset: i64,
    began: u64,
    /// None where the outcome is not known.
    acknowledged: Option<u64>,
}

fn commits<'a>(events: &[&'a Event]) -> Vec<Commit<'a>> {
    let mut acknowledged: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for event in events {
        if let What::Committed { id } = event.what {
            acknowledged.insert((&event.member, id), event.at);
        }
    }
    let mut commits = Vec::new();
    for event in events {
        if let What::Committing { id, offsets } = &event.what {
            let acknowledged = acknowledged.get(&(event.member.as_str(), *id)).copied();
            commits.extend(offsets.iter().map(|(partition, offset)| Commit {
                member: &event.member,
                partition: *partition,
                offset: *offset,
                began: event.at,
                acknowledged,
            }));
        }
    }
    commits
}

fn commits_go_forward(commits: &[Commit<'_>]) -> Vec<String> {
    let mut broken = Vec::new();
    for later in commits.iter().filter(|commit| commit.acknowledged.is_some()) {
        let before = highest_before(commits, later.partition, later.began);
        if let Some(before) = before.filter(|before| before.offset > later.offset) {
            broken.push(format!("{later:?} went back below {before:?}"));
        }
    }
    broken
}

/// The highest commit that was acknowledged before a time.
fn highest_before<'a>(commits: &'a [Commit<'a>], partition: i32, time: u64) -> Option<&'a Commit<'a>> {
    let before = commits.iter().filter(|commit| {
        commit.partition == partition && commit.acknowledged.is_some_and(|acknowledged| acknowledged < time)
    });
    before.max_by_key(|commit| commit.offset)
}

fn commits_are_found(events: &[&Event], commits: &[Commit<'_>]) -> Vec<String> {
    let mut broken = Vec::new();
    for event in events {
        let What::Fetched { partition, began, offset } = event.what else { continue };
        let of_partition = || commits.iter().filter(|commit| commit.partition == partition && commit.began < event.at);
        // Whether another commit was begun after this one's end, and acknowledged before the question.
        let replaced = |end: u64| {
            let mut later = of_partition().filter(|commit| commit.began > end);
            later.any(|commit| commit.acknowledged.is_some_and(|acknowledged| acknowledged < began))
        };
        let known = of_partition()
            .filter(|commit| commit.offset == offset)
            .any(|commit| commit.acknowledged.is_none_or(|acknowledged| !replaced(acknowledged)));
        let none = offset < 0 && !replaced(0);
        if !known && !none {
            let last = of_partition().rfind(|commit| commit.acknowledged.is_some_and(|end| end < began));
            broken.push(format!(
                "{} was told {offset} of partition {partition} between {began} and {}; last acknowledged: {last:?}",
                event.member, event.at
            ));
        }
    }
    broken
}

fn nobody_starts_below_a_commit(events: &[&Event], commits: &[Commit<'_>]) -> Vec<String> {
    let mut since: BTreeMap<(&str, i32), u64> = BTreeMap::new();
    let mut broken = Vec::new();
    for event in events {
        match &event.what {
            What::Assigned(partitions) => {
                since.extend(partitions.iter().map(|partition| ((event.member.as_str(), *partition), event.at)));
            }
            What::Delivered { partition, first, .. } => {
                let Some(assigned) = since.remove(&(event.member.as_str(), *partition)) else { continue };
                let before = highest_before(commits, *partition, assigned);
                if let Some(before) = before.filter(|before| before.offset > *first) {
                    broken.push(format!(
                        "{} got partition {partition} at {assigned} and began to read at {first}, below {before:?}",
                        event.member
                    ));
                }
            }
            _ => {}
        }
    }
    broken
}

fn all_is_delivered(events: &[&Event], ends: &BTreeMap<i32, i64>) -> Vec<String> {
    let mut runs: BTreeMap<i32, Vec<(i64, i64)>> = BTreeMap::new();
    for event in events {
        if let What::Delivered { partition, first, last } = event.what {
            runs.entry(partition).or_default().push((first, last));
        }
    }
    let mut broken = Vec::new();
    for (partition, end) in ends {
        let mut runs = runs.remove(partition).unwrap_or_default();
        runs.sort_unstable();
        let mut next = 0;
        for (first, last) in runs {
            if first > next {
                break;
            }
            next = next.max(last + 1);
        }
        if next < *end {
            broken.push(format!("offset {next} of partition {partition} was delivered to nobody; it ends at {end}"));
        }
    }
    broken
}

#[cfg(test)]
mod tests;
