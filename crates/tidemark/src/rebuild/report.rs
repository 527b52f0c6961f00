//! What a rebuild finds and does, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidemark_coordinator::rebuild::{Log, Origin, PlannedTopic};
use tidemark_model::{JournalId, TopicPartition};
use tidemark_segment::Holder;
use tidemark_segment::checkpoint::Damaged;
use tidemark_storage::rebuild::{Found, FoundPartition};

use super::Inventory;

/// Partitions of a topic of which a loss is told one by one.
const FEW: usize = 20;

/// What would come back, and what is lost.
pub(super) fn inventory(inventory: &Inventory, now_ms: i64) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = head(&mut text, inventory, now_ms);
    let _ = journals(&mut text, inventory);
    let _ = topics(&mut text, inventory);
    text
}

/// What to do next.
pub(super) fn done(inventory: &Inventory, rebuilt: &Holder) -> String {
    let mut text = format!("\nRebuilt: the bucket now belongs to {rebuilt}.\n");
    let waiting = inventory.found.iter().filter(|found| !inventory.logs.contains_key(&found.journal)).count();
    let _ = writeln!(text, "Start the coordinators on the new metadata store, then the rest.");
    if waiting > 0 {
        let _ = writeln!(text, "{waiting} journals go to the first storage nodes that start with new logs.");
    }
    if inventory.logs.values().any(|log| *log != Log::Lost) {
        let _ = writeln!(text, "What the logs that are still there hold comes back when their nodes start.");
    }
    text
}

fn head(text: &mut String, inventory: &Inventory, now_ms: i64) -> std::fmt::Result {
    let Inventory { bucket, holder, cluster, snapshot, damaged, saved, .. } = inventory;
    match holder {
        Some(holder) => writeln!(text, "The bucket {} belongs to {holder}.", bucket.url())?,
        None => writeln!(text, "The bucket {} has cluster {cluster}, and was never claimed.", bucket.url())?,
    }
    for Damaged { key, why } in damaged {
        writeln!(text, "The snapshot {key} is damaged ({why}): the one before it is used.")?;
    }
    match snapshot {
        Some((number, snapshot)) => writeln!(
            text,
            "Snapshot {number} of the metadata is {} s old: {} topics, {} groups. What changed after it is lost.",
            now_ms.saturating_sub(snapshot.taken_ms).max(0) / 1_000,
            saved.topics.len(),
            saved.groups
        ),
        None => {
            writeln!(text, "There is no snapshot of the metadata: names and configs of topics, and groups, are lost.")
        }
    }
}

fn journals(text: &mut String, inventory: &Inventory) -> std::fmt::Result {
    writeln!(text, "\nJournals:")?;
    for Found { journal, checkpointed, segments_after, partitions, .. } in &inventory.found {
        let checkpoint = if *checkpointed { "a checkpoint" } else { "no checkpoint" };
        write!(text, "  {journal}: {checkpoint} with {} partitions, ", partitions.len())?;
        match inventory.logs.get(journal) {
            None | Some(Log::Lost) => writeln!(text, "{segments_after} segments after it; its log is lost")?,
            Some(Log::Kept) => writeln!(text, "its log is said to be there{}", whose(inventory, *journal))?,
            Some(Log::On { node, incarnation }) => writeln!(text, "log {incarnation:016x} of node {node} is there")?,
        }
    }
    Ok(())
}

fn whose(inventory: &Inventory, journal: JournalId) -> String {
    let replicas =
        inventory.saved.journals.get(&journal).map(|journal| journal.replicas.as_slice()).unwrap_or_default();
    let logs: Vec<String> =
        replicas.iter().map(|replica| format!("{:016x} of node {}", replica.incarnation, replica.node)).collect();
    if logs.is_empty() { String::new() } else { format!(": log {}", logs.join(", ")) }
}

fn topics(text: &mut String, inventory: &Inventory) -> std::fmt::Result {
    let found: BTreeMap<TopicPartition, (&FoundPartition, bool)> = inventory
        .found
        .iter()
        .flat_map(|found| {
            let lost = !inventory.logs.contains_key(&found.journal);
            found.partitions.iter().map(move |partition| (partition.partition, (partition, lost)))
        })
        .collect();
    writeln!(text, "\nTopics:")?;
    for PlannedTopic { topic, origin } in &inventory.plan.topics {
        let count = topic.partitions.len();
        let here: Vec<&(&FoundPartition, bool)> =
            (0..count).filter_map(|at| found.get(&TopicPartition::new(topic.id, i32::try_from(at).ok()?))).collect();
        let tiered: i64 = here.iter().map(|(found, _)| found.end - found.log_start).sum();
        write!(text, "  {}: {count} partitions, {tiered} offsets in the bucket", topic.name)?;
        match origin {
            Origin::Snapshot => writeln!(text)?,
            Origin::Grown => writeln!(text, " (it was given more partitions after the snapshot)")?,
            Origin::Journals => writeln!(text, " (it is not in the snapshot: its name and configs are lost)")?,
        }
        let gone = here.iter().filter(|(found, lost)| *lost && found.known_end > found.end);
        let gone: Vec<&FoundPartition> = gone.map(|(found, _)| *found).collect();
        if gone.is_empty() {
            continue;
        }
        let least: i64 = gone.iter().map(|found| found.known_end - found.end).sum();
        writeln!(text, "    lost with the log: at least {least} offsets, of {} partitions", gone.len())?;
        for found in gone.iter().take(FEW) {
            let FoundPartition { partition, end, known_end, .. } = found;
            writeln!(text, "      {}: from {end} on, at least to {}", partition.partition, known_end - 1)?;
        }
        if gone.len() > FEW {
            writeln!(text, "      and {} more", gone.len() - FEW)?;
        }
    }
    if !inventory.plan.deleted.is_empty() {
        writeln!(text, "  {} topics were deleted before the snapshot, and stay so", inventory.plan.deleted.len())?;
    }
    let any_lost = inventory.found.iter().any(|found| !inventory.logs.contains_key(&found.journal));
    if any_lost {
        writeln!(
            text,
            "What a lost log had beyond its last segment is lost, also where nothing tells how much it was."
        )?;
    }
    Ok(())
}
