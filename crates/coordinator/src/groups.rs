//! Groups: members who share topics, and the offsets that they have committed.
//!
//! A [`Group`] decides without doing anything: [`Group::step`] takes an [`Event`] at a time and in a [`Context`], changes
//! the group in memory and returns answers; [`Group::take_writes`] then says what the store must have for it, and
//! [`Group::deadline`] when it wants to be woken. The same group, events and entropy give the same answers, so that
//! thousands of seeds can drive it.
//!
//! A group is of one [`Kind`], [`Classic`] or [`ConsumerGroup`] (KIP-848), and can become the other while it lives. Its
//! [`Offsets`] and configs are the group's own and stay.
//!
//! **Memory and store.** A change of the membership holds in memory at once, is written in order, and who must not be told
//! before the store has it is answered by [`Out::answer_settled`]. A committed offset can be fetched only when the store has it.

mod assignor;
mod call;
pub(crate) mod classic;
pub(crate) mod configs;
pub(crate) mod consumer;
mod event;
mod offsets;
mod regex;
mod runtime;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::TopicId;
use tidemark_model::group::{GroupKind, ListedGroup};
use tokio::time::Instant;

pub(crate) use self::classic::Classic;
pub(crate) use self::consumer::ConsumerGroup;
use self::event::Change;
pub(crate) use self::event::{Answer, Caller, Context, Event, Gate, Out, Scope, Ticket, Writes};
use self::offsets::{Expiry, Offsets};
pub(crate) use self::runtime::Groups;
use crate::records::{BadValue, GroupKey, decode_group_configs, encode_group_configs};

/// The protocol type of consumers, in both protocols.
pub(crate) const CONSUMER: &str = "consumer";

/// A group, or what is left of one: its configs outlive it.
#[derive(Debug)]
pub(crate) struct Group {
    id: Arc<str>,
    /// None: there is no such group.
    kind: Option<Kind>,
    offsets: Offsets,
    /// What is set on the group, whether it exists or not (KIP-848).
    configs: BTreeMap<String, String>,
    /// Records that differ from what was last handed out to be written.
    changes: BTreeMap<GroupKey, Change>,
    /// How many times writes were handed out.
    writes: u64,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Also a group that has nothing but offsets, which Kafka calls simple.
    Classic(Box<Classic>),
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// A group that does not exist yet.
    pub(crate) fn new(id: &str) -> Self {
        let (offsets, configs, changes) = (Offsets::default(), BTreeMap::new(), BTreeMap::new());
        Self { id: id.into(), kind: None, offsets, configs, changes, writes: 0 }
    }

    /// The group as it was stored. Its timers begin anew.
    pub(crate) fn load(id: &str, records: Vec<(GroupKey, Bytes)>, context: &Context<'_>) -> Result<Self, BadValue> {
        let mut group = Self::new(id);
        let (mut classic, mut consumer) = (Vec::new(), Vec::new());
        for (key, value) in records {
            match key {
                GroupKey::Configs => group.configs = decode_group_configs(&value)?,
                GroupKey::Offsets(topic, chunk) => group.offsets.load(topic, chunk, &value)?,
                GroupKey::Classic | GroupKey::ClassicMember(_) => classic.push((key, value)),
                GroupKey::Consumer | GroupKey::ConsumerMember(_) | GroupKey::ConsumerTarget(_) => {
                    consumer.push((key, value));
                }
            }
        }
        let scope = Scope { group: &group.id, configs: &group.configs, context };
        let classic = (!classic.is_empty()).then(|| Classic::load(classic, &scope)).transpose()?;
        let consumer = (!consumer.is_empty()).then(|| ConsumerGroup::load(consumer, &scope)).transpose()?;
        let mut gone = Out::new(1);
        group.kind = match (consumer, classic) {
            // Only a conversion that was cut in two leaves both. What is new is written before what is old is deleted.
            (Some((consumer, is_whole)), Some(classic)) if !is_whole && !classic.is_empty() => {
                consumer.keys().into_iter().for_each(|key| gone.delete(key));
                Some(Kind::Classic(Box::new(classic)))
            }
            (Some((consumer, _)), classic) => {
                classic.into_iter().for_each(|mut classic| classic.delete(&mut gone));
                Some(Kind::Consumer(Box::new(consumer)))
            }
            (None, Some(classic)) => Some(Kind::Classic(Box::new(classic))),
            (None, None) if !group.offsets.is_empty() => Some(Kind::Classic(Box::new(Classic::new(&scope)))),
            (None, None) => None,
        };
        group.changes = gone.changes;
        Ok(group)
    }

    pub(crate) fn step(&mut self, event: Event, context: &Context<'_>) -> Vec<Answer> {
        let mut out = Out::new(self.writes + 1);
        let out_ref = &mut out;
        match event {
            Event::Call(ticket, call) => {
                self.call(ticket, *call, context, out_ref);
                self.answer_held(context, out_ref);
            }
            Event::Deadline => {
                self.on_kind(context, out_ref, |kind, scope, out| match kind {
                    Kind::Classic(classic) => {
                        classic.deadline_passed(scope, out);
                        None
                    }
                    Kind::Consumer(group) => group.deadline_passed(scope, out),
                });
                self.answer_held(context, out_ref);
            }
            Event::Topics { removed } => {
                removed.iter().for_each(|topic| self.offsets.remove_topic(*topic, self.writes, out_ref));
                self.on_kind(context, out_ref, |kind, scope, out| match kind {
                    Kind::Classic(_) => None,
                    Kind::Consumer(group) => group.topics_changed(scope, out),
                });
            }
            Event::Stored(number) => self.offsets.stored(number),
            Event::Sweep => self.sweep(context, out_ref),
        }
        self.changes.append(&mut out.changes);
        out.answers
    }

    /// What the store must have, all that changed since the last time. None when nothing did. Where the store has only the
    /// first of it, nothing is gone whose successor is not there.
    pub(crate) fn take_writes(&mut self) -> Option<Writes> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return None;
        }
        self.writes += 1;
        let records = changes.into_iter().map(|(key, change)| {
            let value = match change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
                Change::Current => self.record(&key),
            };
            (key, value)
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|(_, value)| value.is_none());
        Some(Writes { number: self.writes, records })
    }

    /// Whether there is something to write.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The topics that it has offsets of.
    pub(crate) fn topics_with_offsets(&self) -> impl Iterator<Item = TopicId> {
        self.offsets.topics()
    }

    /// When it wants [`Event::Deadline`]. Earlier does no harm.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.kind.as_ref()? {
            Kind::Classic(classic) => classic.deadline(),
            Kind::Consumer(group) => group.deadline(),
        }
    }

    /// Whether nothing would be lost with it, once all that was written is stored.
    pub(crate) fn is_gone(&self) -> bool {
        self.kind.is_none() && self.offsets.is_empty() && self.configs.is_empty() && self.changes.is_empty()
    }

    /// Its line in ListGroups, if it exists.
    pub(crate) fn listed(&self) -> Option<ListedGroup> {
        let (group, kind) = (self.id.to_string(), self.kind.as_ref()?);
        Some(match kind {
            Kind::Classic(classic) => ListedGroup {
                group,
                protocol_type: classic.protocol_type().unwrap_or_default().to_owned(),
                state: classic.state().as_str().to_owned(),
                kind: GroupKind::Classic,
            },
            Kind::Consumer(consumer) => ListedGroup {
                group,
                protocol_type: CONSUMER.to_owned(),
                state: consumer.state().to_owned(),
                kind: GroupKind::Consumer,
            },
        })
    }

    /// What is to be stored under `key` now. None: nothing.
    fn record(&self, key: &GroupKey) -> Option<Bytes> {
        match key {
            GroupKey::Configs => (!self.configs.is_empty()).then(|| encode_group_configs(&self.configs)),
            GroupKey::Offsets(topic, chunk) => self.offsets.record(*topic, *chunk),
            // Written as they were when the group came to rest.
            GroupKey::Classic | GroupKey::ClassicMember(_) => None,
            GroupKey::Consumer | GroupKey::ConsumerMember(_) | GroupKey::ConsumerTarget(_) => match &self.kind {
                Some(Kind::Consumer(group)) => group.record(key),
                Some(Kind::Classic(_)) | None => None,
            },
        }
    }

    /// Lets the kind of group do something, after which it may be another kind.
    fn on_kind(
        &mut self,
        context: &Context<'_>,
        out: &mut Out,
        step: impl FnOnce(&mut Kind, &Scope<'_>, &mut Out) -> Option<Classic>,
    ) {
        let Some(kind) = &mut self.kind else { return };
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        if let Some(classic) = step(kind, &scope, out) {
            self.become_kind(Some(Kind::Classic(Box::new(classic))), out);
        }
    }

    fn answer_held(&mut self, context: &Context<'_>, out: &mut Out) {
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        if let Some(Kind::Consumer(group)) = &mut self.kind {
            group.answer_held(&scope, out);
        }
    }

    /// Replaces the kind, and writes what is stored of the one in place of what was of the other.
    fn become_kind(&mut self, mut kind: Option<Kind>, out: &mut Out) {
        match &mut self.kind {
            Some(Kind::Classic(classic)) => classic.delete(out),
            Some(Kind::Consumer(group)) => {
                group.let_all_go(out);
                group.keys().into_iter().for_each(|key| out.changed(key));
            }
            None => {}
        }
        match &mut kind {
            Some(Kind::Classic(classic)) => classic.store(out),
            Some(Kind::Consumer(group)) => group.keys().into_iter().for_each(|key| out.changed(key)),
            None => {}
        }
        self.kind = kind;
    }

    /// Takes away what is out of date, and then a group that nothing is left of.
    fn sweep(&mut self, context: &Context<'_>, out: &mut Out) {
        let Some(kind) = &self.kind else { return };
        let (expiry, empty) = match kind {
            Kind::Classic(classic) => (classic.offset_expiry(), classic.is_unused()),
            Kind::Consumer(group) => (Expiry::SinceCommit, group.is_empty()),
        };
        let subscribed = |topic: &str| match kind {
            Kind::Classic(classic) => classic.is_subscribed_to(topic),
            Kind::Consumer(group) => group.is_subscribed_to(topic),
        };
        self.offsets.expire(expiry, subscribed, self.writes, context, out);
        if empty && self.offsets.is_unused() {
            self.become_kind(None, out);
        }
    }
}

#[cfg(test)]
pub(crate) mod kit;
#[cfg(test)]
mod tests;
