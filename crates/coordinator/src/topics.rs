//! Creating, deleting and changing topics.

use std::collections::BTreeMap;

use futures::StreamExt;
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, TopicRef};
use tidemark_model::{CoordinatorError, RecordKey, Topic, TopicId};
use uuid::Uuid;

use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::placement::Placement;
use crate::records::{TopicName, decode_topic, decode_topic_name, encode_topic, encode_topic_name};
use crate::service::{ATTEMPTS, CATCH_UP, Shared};
use crate::store::{Commit, Entry, Txn};
use crate::topic_rules as rules;

/// Deletions of one request that are under way at once: enough for the store to commit them together.
const CONCURRENT_DELETIONS: usize = 16;

type Answer = Result<Changed, CoordinatorError>;

pub(crate) async fn create(shared: &Shared, topics: Vec<NewTopic>, validate_only: bool) -> Vec<Answer> {
    let mut placement = Placement::new(shared.state.journals());
    let num_partitions = |topic: &NewTopic| match topic.partitions {
        -1 => shared.settings.num_partitions,
        partitions => partitions,
    };
    let total = rules::check_total(topics.iter().map(num_partitions));
    let plan = |topic| total.clone().and_then(|()| plan(shared, &mut placement, topic));
    let planned: Vec<Result<Topic, CoordinatorError>> = topics.into_iter().map(plan).collect();
    if validate_only {
        return validate(shared, planned).await;
    }

    // Many topics go into one transaction. When one of them stops it, each is tried by itself.
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(planned.len());
    let mut batch: Vec<(usize, Topic)> = Vec::new();
    let mut txn = Txn::new();
    for (at, planned) in planned.into_iter().enumerate() {
        let topic = match planned {
            Ok(topic) => topic,
            Err(error) => {
                answers.push(Some(Err(error)));
                continue;
            }
        };
        answers.push(None);
        let one = creation(shared, &topic);
        let again =
            batch.iter().any(|(_, other)| shared.keys.topic_name(&other.name) == shared.keys.topic_name(&topic.name));
        if again || !txn.fits_with(&one) {
            commit_batch(shared, std::mem::take(&mut batch), std::mem::take(&mut txn), &mut answers).await;
        }
        batch.push((at, topic));
        txn = txn.and(one);
    }
    commit_batch(shared, batch, txn, &mut answers).await;
    let answers: Vec<Answer> =
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost_races("topics")))).collect();
    if let Some(last) = answers.iter().flatten().map(|changed| changed.revision).max() {
        shared.state.reached(last, CATCH_UP).await;
    }
    answers
}

/// Everything that can be said of a new topic without writing it.
fn plan(shared: &Shared, placement: &mut Placement, topic: NewTopic) -> Result<Topic, CoordinatorError> {
    rules::check_name(&topic.name)?;
    let configs = rules::check_configs(&topic.configs)?;
    let settings = &shared.settings;
    let (count, replication_factor) =
        rules::check_size(&topic, settings.num_partitions, settings.default_replication_factor)?;
    let partitions =
        placement.place(count, replication_factor).map_err(|reason| rules::no_place(replication_factor, reason))?;
    Ok(Topic { id: shared.random_topic_id(), name: topic.name, replication_factor, partitions, configs })
}

async fn validate(shared: &Shared, planned: Vec<Result<Topic, CoordinatorError>>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(planned.len());
    for planned in planned {
        answers.push(match planned {
            Err(error) => Err(error),
            Ok(topic) => match taken(shared, &topic.name).await {
                Ok(None) => Ok(unwritten(shared, Topic { id: TopicId(Uuid::nil()), ..topic })),
                Ok(Some(taken)) | Err(taken) => Err(taken),
            },
        });
    }
    answers
}

/// What was asked for as it would be: there is no revision to wait for.
fn unwritten(shared: &Shared, topic: Topic) -> Changed {
    Changed { topic, revision: shared.state.revision().unwrap_or(0) }
}

fn creation(shared: &Shared, topic: &Topic) -> Txn {
    let name = shared.keys.topic_name(&topic.name);
    let holder = encode_topic_name(&TopicName { name: topic.name.clone(), id: topic.id.0 });
    let record = shared.keys.record(RecordKey::Topic(topic.id));
    Txn::new().if_absent(&name).put(name, holder).put(record, encode_topic(topic))
}

async fn commit_batch(shared: &Shared, batch: Vec<(usize, Topic)>, txn: Txn, answers: &mut [Option<Answer>]) {
    if batch.is_empty() {
        return;
    }
    match shared.store.commit(txn).await {
        Ok(Commit::Done(revision)) => {
            for (at, topic) in batch {
                answers[at] = Some(Ok(Changed { topic, revision }));
            }
        }
        Ok(Commit::Conflict) => {
            for (at, topic) in batch {
                answers[at] = Some(create_one(shared, topic).await);
            }
        }
        Err(error) => {
            for (at, _) in batch {
                answers[at] = Some(Err(error.clone().into()));
            }
        }
    }
}

async fn create_one(shared: &Shared, topic: Topic) -> Answer {
    for _ in 0..ATTEMPTS {
        if let Some(taken) = taken(shared, &topic.name).await? {
            return Err(taken);
        }
        if let Commit::Done(revision) = shared.store.commit(creation(shared, &topic)).await? {
            return Ok(Changed { topic, revision });
        }
        metrics::write_conflict();
    }
    Err(lost_races("the topic"))
}

/// Why a name cannot be had, as the store has it now.
async fn taken(shared: &Shared, name: &str) -> Result<Option<CoordinatorError>, CoordinatorError> {
    Ok(named(shared, name).await?.map(|(holder, _)| match holder.name == name {
        true => rules::exists(name),
        false => rules::collides(name, &holder.name),
    }))
}

/// Who has this name, or one that collides with it.
async fn named(shared: &Shared, name: &str) -> Result<Option<(TopicName, Entry)>, CoordinatorError> {
    let key = shared.keys.topic_name(name);
    let Some(entry) = shared.store.get(&key).await? else { return Ok(None) };
    let holder = decode_topic_name(&entry.value).map_err(|error| unreadable(&key, error))?;
    Ok(Some((holder, entry)))
}

pub(crate) async fn delete(shared: &Shared, topics: Vec<TopicRef>) -> Vec<Answer> {
    let deletions = topics.into_iter().map(|topic| delete_one(shared, topic));
    let answers: Vec<Answer> = futures::stream::iter(deletions).buffered(CONCURRENT_DELETIONS).collect().await;
    if let Some(last) = answers.iter().flatten().map(|changed| changed.revision).max() {
        shared.state.reached(last, CATCH_UP).await;
    }
    answers
}

async fn delete_one(shared: &Shared, wanted: TopicRef) -> Answer {
    for _ in 0..ATTEMPTS {
        let (topic, entry) = find(shared, &wanted).await?;
        // The name is the topic's for as long as the topic is there: both are written together.
        let txn = Txn::new()
            .if_still(&entry.key, Some(&entry))
            .delete(&entry.key)
            .delete(shared.keys.topic_name(&topic.name));
        if let Commit::Done(revision) = shared.store.commit(txn).await? {
            return Ok(Changed { topic, revision });
        }
        metrics::write_conflict();
    }
    Err(lost_races("the topic"))
}

pub(crate) async fn create_partitions(shared: &Shared, wanted: &TopicRef, total: i32, validate_only: bool) -> Answer {
    change(shared, wanted, validate_only, |mut topic| {
        let more = rules::check_growth(&topic.name, topic.partitions.len(), total)?;
        let mut placement = Placement::new(shared.state.journals());
        let factor = topic.replication_factor;
        topic.partitions.extend(placement.place(more, factor).map_err(|reason| rules::no_place(factor, reason))?);
        Ok(topic)
    })
    .await
}

pub(crate) async fn alter_configs(
    shared: &Shared,
    wanted: &TopicRef,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Answer {
    let answer = change(shared, wanted, validate_only, |topic| {
        let configs: BTreeMap<String, String> = rules::change_configs(&topic.configs, changes)?;
        Ok(Topic { configs, ..topic })
    });
    match (answer.await, wanted) {
        (Err(CoordinatorError::UnknownTopic(_)), TopicRef::Name(name)) => {
            Err(CoordinatorError::UnknownTopic(format!("The topic '{name}' does not exist.")))
        }
        (answer, _) => answer,
    }
}

async fn change(
    shared: &Shared,
    wanted: &TopicRef,
    validate_only: bool,
    change: impl Fn(Topic) -> Result<Topic, CoordinatorError>,
) -> Answer {
    for _ in 0..ATTEMPTS {
        let (topic, entry) = find(shared, wanted).await?;
        let topic = change(topic)?;
        if validate_only {
            return Ok(unwritten(shared, topic));
        }
        let txn = Txn::new().if_still(&entry.key, Some(&entry)).put(&entry.key, encode_topic(&topic));
        if let Commit::Done(revision) = shared.store.commit(txn).await? {
            shared.state.reached(revision, CATCH_UP).await;
            return Ok(Changed { topic, revision });
        }
        metrics::write_conflict();
    }
    Err(lost_races("the topic"))
}

/// The topic as the store has it now.
async fn find(shared: &Shared, wanted: &TopicRef) -> Result<(Topic, Entry), CoordinatorError> {
    let unknown = |reason: &str| CoordinatorError::UnknownTopic(reason.to_owned());
    let id = match wanted {
        TopicRef::Id(id) => *id,
        TopicRef::Name(name) => {
            let holder = named(shared, name).await?.map(|(holder, _)| holder).filter(|holder| holder.name == *name);
            TopicId(holder.ok_or_else(|| unknown("This server does not host this topic-partition."))?.id)
        }
    };
    let key = shared.keys.record(RecordKey::Topic(id));
    let entry = shared.store.get(&key).await?.ok_or_else(|| {
        unknown(match wanted {
            TopicRef::Id(_) => "This server does not host this topic ID.",
            TopicRef::Name(_) => "This server does not host this topic-partition.",
        })
    })?;
    let topic = decode_topic(&entry.value).map_err(|error| unreadable(&key, error))?;
    Ok((topic, entry))
}
