//! What is stored of a group that is stable or empty, and the group as it comes back from there.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Classic, Member, State};
use crate::groups::{Out, Scope};
use crate::records::{
    BadValue, GroupKey, StoredClassic, StoredClassicMember, decode_classic, decode_classic_member, encode_classic,
    encode_classic_member,
};

impl Classic {
    /// Writes the group as it is now.
    pub(in crate::groups) fn store(&mut self, out: &mut Out) {
        if self.protocol_type.is_none() && self.members.is_empty() {
            // There are only offsets, which are stored for themselves.
            return self.delete(out);
        }
        let before = std::mem::replace(&mut self.stored_members, self.members.keys().cloned().collect());
        for gone in before.difference(&self.stored_members) {
            out.delete(GroupKey::ClassicMember(gone.clone()));
        }
        for (id, member) in &self.members {
            let value = encode_classic_member(&StoredClassicMember {
                generation: self.generation,
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                session_timeout: member.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocols: member.protocols.clone(),
                assignment: member.assignment.clone(),
            });
            out.put(GroupKey::ClassicMember(id.clone()), value);
        }
        let value = encode_classic(&StoredClassic {
            since_ms: self.since_ms,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.len(),
        });
        out.put(GroupKey::Classic, value);
        self.is_stored = true;
    }

    /// Takes away whatever is stored of it.
    pub(in crate::groups) fn delete(&mut self, out: &mut Out) {
        for id in std::mem::take(&mut self.stored_members) {
            out.delete(GroupKey::ClassicMember(id));
        }
        if std::mem::take(&mut self.is_stored) {
            out.delete(GroupKey::Classic);
        }
    }

    /// The group as it was stored: its members have all of their time again.
    ///
    /// Where a write of many records was cut in two, what is there is of no generation that anybody was told of. Its
    /// members are forgotten, and join again when they notice.
    pub(in crate::groups) fn load(records: Vec<(GroupKey, Bytes)>, scope: &Scope<'_>) -> Result<Self, BadValue> {
        let (mut group, mut head) = (Self::new(scope), None);
        let mut generations = BTreeSet::new();
        for (key, value) in records {
            match key {
                GroupKey::Classic => head = Some(decode_classic(&value)?),
                GroupKey::ClassicMember(id) => {
                    let stored = decode_classic_member(&value)?;
                    generations.insert(stored.generation);
                    group.stored_members.insert(id.clone());
                    group.members.insert(id, member(stored, scope));
                }
                GroupKey::Configs
                | GroupKey::Consumer
                | GroupKey::ConsumerMember(_)
                | GroupKey::ConsumerTarget(_)
                | GroupKey::Offsets(..) => {}
            }
        }
        group.is_stored = head.is_some();
        let last_generation = generations.last().copied().unwrap_or_default();
        let whole = head.as_ref().is_some_and(|head| {
            head.members == group.members.len() && generations.iter().all(|generation| *generation == head.generation)
        });
        let generation = head.as_ref().map_or(last_generation, |head| head.generation.max(last_generation));
        group.generation = generation;
        if let Some(StoredClassic { since_ms, protocol_type, protocol, leader, .. }) = head {
            (group.since_ms, group.protocol_type) = (since_ms, protocol_type);
            (group.protocol, group.leader) = (protocol, leader);
        }
        if !whole {
            tracing::warn!(group = scope.group, generation, "a group was stored in part: its members begin anew");
            group.members.clear();
            group.since_ms = scope.wall_ms;
        }
        if group.members.is_empty() {
            (group.protocol, group.leader) = (None, None);
        } else {
            group.state = State::Stable;
        }
        for (id, member) in &group.members {
            group.static_members.extend(member.instance_id.clone().map(|instance_id| (instance_id, id.clone())));
        }
        group.subscribed = group.subscribed_topics();
        if group.members.len() > scope.settings.max_size {
            // The bound is another one now. Who comes again in time stays, as in Kafka; nobody waits for an answer yet.
            group.prepare_rebalance(scope, &mut Out::new(1));
        }
        Ok(group)
    }
}

fn member(stored: StoredClassicMember, scope: &Scope<'_>) -> Member {
    let mut member = Member {
        instance_id: stored.instance_id,
        session_timeout: stored.session_timeout,
        rebalance_timeout: stored.rebalance_timeout,
        assignment: stored.assignment,
        ..Member::new(stored.client_id, stored.client_host, stored.protocols)
    };
    member.heard(scope.now);
    member
}
