//! What clients see of the cluster: gateways as brokers, and partitions with gateways as replicas.

use tidemark_model::{ClusterState, Node, NodeId, Role, Topic, TopicPartition, route};
use tidemark_wire::NodeEndpoint;
use tidemark_wire::error::ErrorCode;

/// The id of no leader.
const NO_LEADER: i32 = -1;
/// The leader epoch of a partition whose journal is not known.
const NO_EPOCH: i32 = -1;
/// The port of an address without one.
const NO_PORT: i32 = -1;
/// Kafka's longest topic name.
const MAX_NAME_LEN: usize = 249;

/// A partition as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionView {
    pub(crate) error: ErrorCode,
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    /// As many as the topic's replication factor, the leader first.
    pub(crate) replicas: Vec<i32>,
    /// As many as the journal's in-sync replicas are, the leader first.
    pub(crate) isr: Vec<i32>,
    /// As many as the journal's dead replicas are.
    pub(crate) offline: Vec<i32>,
}

/// A gateway as clients see it.
pub(crate) fn endpoint(gateway: &Node) -> NodeEndpoint {
    let (host, port) = host_and_port(&gateway.address);
    NodeEndpoint { node_id: gateway.id.0, host, port, rack: gateway.rack.clone() }
}

/// All gateways, by id.
pub(crate) fn endpoints(state: &ClusterState) -> impl Iterator<Item = NodeEndpoint> {
    state.nodes(Role::Gateway).map(|node| endpoint(node))
}

/// The gateway that administrative requests are sent to. Any does: the same one for all clients keeps their changes in
/// the order in which they see them.
pub(crate) fn controller(state: &ClusterState) -> i32 {
    state.nodes(Role::Gateway).next().map_or(NO_LEADER, |node| node.id.0)
}

/// Partition `index` of a topic. Its leader is -1 where nobody could serve it now.
///
/// Gateways stand for the journal's replicas in number only: tools that compare the lengths of replicas and ISR are told
/// the truth about replication.
pub(crate) fn partition(state: &ClusterState, topic: &Topic, index: i32) -> PartitionView {
    let at = TopicPartition::new(topic.id, index);
    let count = usize::try_from(topic.replication_factor).unwrap_or(1).max(1);
    let replicas: Vec<i32> = route::replicas_for(state, at, count).iter().map(|node| node.0).collect();
    let journal = state.partition(at).and_then(|partition| state.journal(partition.journal));
    let in_sync = journal.map_or(0, |journal| journal.isr.len()).min(replicas.len());
    let dead = journal.map_or(replicas.len(), |journal| {
        let replicas = journal.replicas.iter();
        replicas.filter(|replica| !is_alive(state, replica.node)).count()
    });
    let served = journal.is_some_and(|journal| is_alive(state, journal.leader));
    let leader = route::gateway_for(state, at).filter(|_| served);
    PartitionView {
        error: if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
        leader: leader.map_or(NO_LEADER, |node| node.id.0),
        leader_epoch: state.leader_epoch(at).unwrap_or(NO_EPOCH),
        isr: replicas[..in_sync].to_vec(),
        offline: replicas[replicas.len().saturating_sub(dead)..].to_vec(),
        replicas,
    }
}

/// Whether Kafka allows a topic this name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_NAME_LEN && name != "." && name != ".." && name.bytes().all(legal)
}

fn is_alive(state: &ClusterState, storage: NodeId) -> bool {
    state.node(Role::Storage, storage).is_some()
}

fn host_and_port(address: &str) -> (String, i32) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host.to_owned(), port.parse::<u16>().map_or(NO_PORT, i32::from))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidemark_model::{Journal, JournalId, Partition, Record, RecordKey, Replica, TopicId};
    use uuid::Uuid;

    use super::*;

    fn node(role: Role, id: i32) -> Record {
        let address = format!("host-{id}:9092");
        Record::Node(Node { role, id: NodeId(id), incarnation: 1, address, rack: None })
    }

    fn topic() -> Topic {
        Topic {
            id: TopicId(Uuid::from_u128(7)),
            name: "orders".into(),
            replication_factor: 3,
            partitions: vec![Partition { journal: JournalId(1), epoch_base: 10 }],
            configs: BTreeMap::new(),
        }
    }

    fn state() -> ClusterState {
        let mut state = ClusterState::new("c".into());
        let replica = |id| Replica { node: NodeId(id), incarnation: 1 };
        let replicas = vec![replica(1), replica(2), replica(3)];
        let isr = vec![replica(1), replica(3)];
        state.upsert(Record::Journal(Journal { id: JournalId(1), epoch: 5, leader: NodeId(1), replicas, isr }));
        for record in [node(Role::Gateway, 1), node(Role::Gateway, 2), node(Role::Storage, 1), node(Role::Storage, 3)] {
            state.upsert(record);
        }
        state.upsert(Record::Topic(topic()));
        state
    }

    #[test]
    fn replicas_isr_and_offline_are_as_many_as_they_really_are() {
        let view = partition(&state(), &topic(), 0);
        assert_eq!(view.error, ErrorCode::None);
        assert_eq!(view.leader_epoch, 15);
        assert_eq!((view.replicas.len(), view.isr.len(), view.offline.len()), (3, 2, 1));
        assert_eq!(view.leader, view.replicas[0]);
        assert_eq!(view.isr[..], view.replicas[..2]);
        assert_eq!(view.offline[..], view.replicas[2..]);
    }

    #[test]
    fn a_partition_whose_storage_leader_is_dead_has_no_leader() {
        let mut state = state();
        state.remove(RecordKey::Node(Role::Storage, NodeId(1)));
        let view = partition(&state, &topic(), 0);
        assert_eq!((view.error, view.leader), (ErrorCode::LeaderNotAvailable, -1));
        assert_eq!(view.leader_epoch, 15);
    }

    #[test]
    fn addresses_have_hosts_and_ports() {
        assert_eq!(host_and_port("a.example:9092"), ("a.example".into(), 9092));
        assert_eq!(host_and_port("[::1]:9092"), ("::1".into(), 9092));
        assert_eq!(host_and_port("a"), ("a".into(), -1));
    }

    #[test]
    fn names_follow_kafkas_rules() {
        for (name, valid) in
            [("a", true), ("A.b_c-9", true), ("", false), (".", false), ("..", false), ("...", true), ("a b", false)]
        {
            assert_eq!(is_valid_name(name), valid, "{name}");
        }
        assert!(is_valid_name(&"x".repeat(249)) && !is_valid_name(&"x".repeat(250)));
    }
}
