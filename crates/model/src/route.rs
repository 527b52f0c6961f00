//! Who serves what: rendezvous hashing (Thaler and Ravishankar, 1998) of partitions over gateways and of journals over
//! brokers, so that a node that comes or goes moves only its own share.

use std::sync::Arc;

use crate::{ClusterState, JournalId, Node, NodeId, Role, SlotId, TopicPartition};

/// The way an append came: which gateway and broker sent it, and how new their view of the cluster was.
///
/// The journal's leader remembers the last one for each partition. It refuses an append that came another way with an
/// older view: a broker or gateway that was paused while its partition went elsewhere cannot append late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The revision of the cluster state by which the gateway routed.
    pub generation: u64,
    pub gateway: NodeId,
    pub broker: NodeId,
}

/// Replica ids from here on stand for replicas for which there is no gateway.
pub const PADDING_REPLICA_IDS: i32 = 1_000_000_000;

/// The gateway that clients see as the partition's leader.
pub fn gateway_for(state: &ClusterState, at: TopicPartition) -> Option<&Arc<Node>> {
    winner(state.nodes(Role::Gateway), partition_hash(at))
}

/// The broker that serves a journal.
pub fn broker_for(state: &ClusterState, journal: JournalId) -> Option<&Arc<Node>> {
    winner(state.nodes(Role::Broker), mix(u64::from(journal.0) ^ 0x6a6f_7572_6e61_6c00))
}

/// The storage node that leads a journal, when it is alive.
pub fn storage_for(state: &ClusterState, journal: JournalId) -> Option<&Arc<Node>> {
    state.node(Role::Storage, state.journal(journal)?.leader)
}

/// How many slots the groups of a cluster are spread over. Never changed: what is stored of a group is under its slot.
pub const SLOTS: u32 = 64;

/// The slot of a group.
pub fn slot_for(group: &str) -> SlotId {
    SlotId((group_hash(group) % u64::from(SLOTS)) as u32)
}

/// The gateway that clients see as the coordinator of a group.
pub fn gateway_for_group<'a>(state: &'a ClusterState, group: &str) -> Option<&'a Arc<Node>> {
    winner(state.nodes(Role::Gateway), mix(group_hash(group)))
}

/// The coordinator that owns a slot, when it is alive.
pub fn coordinator_for(state: &ClusterState, slot: SlotId) -> Option<&Arc<Node>> {
    let slot = state.slot(slot)?;
    state.node(Role::Coordinator, slot.owner).filter(|node| node.incarnation == slot.incarnation)
}

/// The ids that clients see as a partition's replicas: the leader first, then gateways of racks not yet used, then the
/// other gateways, then padding, `count` in all.
pub fn replicas_for(state: &ClusterState, at: TopicPartition, count: usize) -> Vec<NodeId> {
    let key = partition_hash(at);
    let mut ranked: Vec<&Arc<Node>> = state.nodes(Role::Gateway).collect();
    ranked.sort_by_key(|node| (std::cmp::Reverse(score(node.id, key)), node.id));
    let mut chosen: Vec<&Arc<Node>> = Vec::with_capacity(count);
    for only_new_racks in [true, false] {
        for node in &ranked {
            let taken = chosen.iter().any(|c| c.id == node.id);
            let same_rack = node.rack.is_some() && chosen.iter().any(|c| c.rack == node.rack);
            if chosen.len() < count && !taken && !(only_new_racks && same_rack) {
                chosen.push(node);
            }
        }
    }
    let mut ids: Vec<NodeId> = chosen.iter().map(|node| node.id).collect();
    let padding = (0..).map(|n| NodeId(PADDING_REPLICA_IDS + n));
    ids.extend(padding.take(count.saturating_sub(chosen.len())));
    ids
}

fn winner<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>, key: u64) -> Option<&'a Arc<Node>> {
    nodes.max_by_key(|node| (score(node.id, key), std::cmp::Reverse(node.id)))
}

fn partition_hash(at: TopicPartition) -> u64 {
    let (high, low) = at.topic.0.as_u64_pair();
    mix(mix(mix(high) ^ low) ^ u64::from(at.partition as u32))
}

/// FNV-1a (Fowler, Noll and Vo, 1991) of the name, mixed. What is stored depends on it: it never changes.
fn group_hash(group: &str) -> u64 {
    mix(group.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

fn score(node: NodeId, key: u64) -> u64 {
    mix(key ^ mix(u64::from(node.0 as u32)))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every input bit changes half of the output bits.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::{Record, RecordKey, TopicId};

    fn gateways(racks: &[Option<&str>]) -> ClusterState {
        let mut state = ClusterState::new("c".into());
        for (i, rack) in racks.iter().enumerate() {
            state.upsert(Record::Node(Node {
                role: Role::Gateway,
                id: NodeId(i as i32 + 1),
                incarnation: 1,
                address: String::new(),
                rack: rack.map(Into::into),
            }));
        }
        state
    }

    fn at(n: u128) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(n / 10)), (n % 10) as i32)
    }

    #[test]
    fn partitions_spread_and_only_the_share_of_a_lost_gateway_moves() {
        let mut state = gateways(&[None, None, None]);
        let before: Vec<NodeId> = (0..3_000).map(|n| gateway_for(&state, at(n)).unwrap().id).collect();
        let mut counts = BTreeMap::new();
        for id in &before {
            *counts.entry(*id).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|c| (800..1_200).contains(c)), "{counts:?}");
        state.remove(RecordKey::Node(Role::Gateway, NodeId(2)));
        for (n, id) in before.iter().enumerate() {
            let now = gateway_for(&state, at(n as u128)).unwrap().id;
            assert!(now == *id || *id == NodeId(2));
        }
    }

    #[test]
    fn groups_spread_over_all_slots_and_stay_where_they_are() {
        let mut counts = [0; SLOTS as usize];
        (0..6_400).for_each(|n| counts[slot_for(&format!("group-{n}")).0 as usize] += 1);
        assert!(counts.iter().all(|count| (50..160).contains(count)), "{counts:?}");
        // Stored under these numbers.
        assert_eq!([slot_for(""), slot_for("orders"), slot_for("a.b")].map(|slot| slot.0), [48, 38, 8]);
    }

    #[test]
    fn replicas_lead_with_the_leader_prefer_other_racks_and_are_padded() {
        let state = gateways(&[Some("a"), Some("a"), Some("b")]);
        for n in 0..100 {
            let ids = replicas_for(&state, at(n), 4);
            assert_eq!(ids[0], gateway_for(&state, at(n)).unwrap().id);
            let rack = |id: NodeId| state.node(Role::Gateway, id).unwrap().rack.clone();
            assert_ne!(rack(ids[0]), rack(ids[1]));
            assert_eq!(ids[3], NodeId(PADDING_REPLICA_IDS));
        }
        assert_eq!(replicas_for(&gateways(&[]), at(1), 1), vec![NodeId(PADDING_REPLICA_IDS)]);
    }
}
