//! What the members of a group are subscribed to, by name and by patterns, and which topics that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemark_model::{GroupError, TopicId};
use tokio::time::Instant;

use super::member::Subscription;
use crate::groups::Scope;
use crate::groups::regex::Pattern;

/// Patterns are looked up among all topics at most so often, however fast topics come.
const LOOK_UP_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// How many members name a topic.
    names: BTreeMap<String, usize>,
    patterns: BTreeMap<String, Resolved>,
    /// Of the topics that there are to assign, as of the group's epoch.
    pub(super) metadata_hash: u64,
    /// The latest cluster state that was looked at, perhaps by a coordinator before this one.
    pub(super) revision: u64,
    /// Topics have changed since `looked_up`.
    stale: bool,
    looked_up: Option<Instant>,
}

/// A pattern, and what it stands for.
#[derive(Debug)]
struct Resolved {
    members: usize,
    /// None for one that was stored and can no longer be read: it stands for nothing.
    pattern: Option<Pattern>,
    topics: BTreeSet<TopicId>,
}

impl Subscriptions {
    /// Another member is subscribed. Patterns are taken up by [`Self::know`].
    pub(super) fn add(&mut self, subscription: &Subscription) {
        for topic in &subscription.topics {
            *self.names.entry(topic.clone()).or_default() += 1;
        }
        if let Some(regex) = &subscription.regex {
            let new = || Resolved { members: 0, pattern: None, topics: BTreeSet::new() };
            self.patterns.entry(regex.clone()).or_insert_with(new).members += 1;
        }
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) {
        for topic in &subscription.topics {
            if let Some(members) = self.names.get_mut(topic) {
                *members -= 1;
                if *members == 0 {
                    self.names.remove(topic);
                }
            }
        }
        let Some(regex) = &subscription.regex else { return };
        if let Some(resolved) = self.patterns.get_mut(regex) {
            resolved.members -= 1;
            if resolved.members == 0 {
                self.patterns.remove(regex);
            }
        }
    }

    pub(super) fn knows(&self, regex: &str) -> bool {
        self.patterns.get(regex).is_some_and(|resolved| resolved.pattern.is_some())
    }

    /// A pattern that a member has been subscribed with.
    pub(super) fn know(&mut self, regex: &str, pattern: Pattern, scope: &Scope<'_>) {
        if let Some(resolved) = self.patterns.get_mut(regex) {
            resolved.topics = look_up(&pattern, scope);
            resolved.pattern = Some(pattern);
        }
    }

    /// By name, or by a pattern.
    pub(super) fn include(&self, topic: &str) -> bool {
        let mut patterns = self.patterns.values().filter_map(|resolved| resolved.pattern.as_ref());
        self.names.contains_key(topic) || patterns.any(|pattern| pattern.matches(topic))
    }

    pub(super) fn topics_changed(&mut self) {
        self.stale = true;
    }

    /// Sees whether what there is to assign has changed, when there is reason to.
    pub(super) fn refresh(&mut self, scope: &Scope<'_>) -> bool {
        let soon = self.looked_up.is_some_and(|at| scope.now.saturating_duration_since(at) < LOOK_UP_AGAIN_AFTER);
        if !self.stale || (soon && !self.patterns.is_empty()) {
            return false;
        }
        self.stale = false;
        self.looked_up = Some(scope.now);
        for resolved in self.patterns.values_mut() {
            resolved.topics = resolved.pattern.iter().flat_map(|pattern| look_up(pattern, scope)).collect();
        }
        self.rehash(scope)
    }

    /// Nothing is decided by an older cluster state than has been decided by: topics would seem to be gone.
    pub(super) fn check_state(&self, scope: &Scope<'_>) -> Result<(), GroupError> {
        if scope.cluster.revision < self.revision { Err(GroupError::LoadInProgress) } else { Ok(()) }
    }

    /// Says whether what there is to assign is something else than at the last call.
    pub(super) fn rehash(&mut self, scope: &Scope<'_>) -> bool {
        self.stale |= scope.cluster.revision < self.revision;
        self.revision = self.revision.max(scope.cluster.revision);
        let by_name = self.names.keys().filter_map(|name| scope.cluster.topic_named(name)).map(|topic| topic.id);
        let by_pattern = self.patterns.values().flat_map(|resolved| resolved.topics.iter().copied());
        let mut hash = Hash::default();
        for topic in by_name.chain(by_pattern).collect::<BTreeSet<_>>() {
            if let Some(topic) = scope.cluster.topic(topic) {
                hash.add(topic.id.0.as_bytes());
                hash.add(&(topic.partitions.len() as u64).to_be_bytes());
            }
        }
        std::mem::replace(&mut self.metadata_hash, hash.0) != hash.0
    }

    /// The topics that there are of a subscription.
    pub(super) fn topics_of(&self, subscription: &Subscription, scope: &Scope<'_>) -> BTreeSet<TopicId> {
        let by_name = subscription.topics.iter().filter_map(|name| scope.cluster.topic_named(name));
        let by_name = by_name.map(|topic| topic.id);
        let resolved = subscription.regex.as_ref().and_then(|regex| self.patterns.get(regex));
        let by_pattern = resolved.into_iter().flat_map(|resolved| resolved.topics.iter().copied());
        let by_pattern = by_pattern.filter(|topic| scope.cluster.topic(*topic).is_some());
        by_name.chain(by_pattern).collect()
    }
}

fn look_up(pattern: &Pattern, scope: &Scope<'_>) -> BTreeSet<TopicId> {
    let topics = scope.cluster.topics_by_name().filter(|topic| pattern.matches(&topic.name));
    topics.map(|topic| topic.id).collect()
}

/// FNV-1a. It tells another set of topics from this one, also to the next owner of the group, and protects against nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(pub(super) u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
impl Subscriptions {
    pub(super) fn is_just_of<'a>(&self, members: impl Iterator<Item = &'a Subscription>) -> bool {
        let mut fresh = Self::default();
        members.for_each(|member| fresh.add(member));
        let counts = |of: &Self| -> Vec<(String, usize)> {
            of.patterns.iter().map(|(regex, resolved)| (regex.clone(), resolved.members)).collect()
        };
        fresh.names == self.names && counts(&fresh) == counts(self)
    }
}
