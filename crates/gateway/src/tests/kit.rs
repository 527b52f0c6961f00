//! A gateway on a loopback port, with a client for it and scripted services behind it.

mod broker;
mod bytes;
mod client;
mod coordinator;
mod groups;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use tidemark_model::{
    Broker, ClusterState, Dial, Entropy, GroupCoordinator, Journal, JournalId, Node, NodeId, Partition, Record,
    RecordKey, Replica, Role, Slot, SlotId, Topic, TopicId, TopicPartition, route,
};
use tidemark_runtime::ClusterView;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::broker::FakeBroker;
pub(crate) use self::bytes::{Get, Put};
pub(crate) use self::client::{Client, FetchAnswer, FetchQuery, batch, fetch, produce};
pub(crate) use self::coordinator::FakeCoordinator;
pub(crate) use self::groups::FakeGroups;
use crate::{Deps, Service, Settings};

/// The gateway under test.
pub(crate) const ME: NodeId = NodeId(1);
/// The gateway that leads what the one under test does not, where there are two.
pub(crate) const OTHER: NodeId = NodeId(2);

pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) brokers: Vec<Arc<FakeBroker>>,
    pub(crate) coordinator: Arc<FakeCoordinator>,
    /// The coordinators as owners of groups, by id.
    pub(crate) owners: Vec<Arc<FakeGroups>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) service: Service,
}

/// How the cluster of a [`Fixture`] looks.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) gateways: i32,
    /// As many journals as brokers, partition n of a topic on journal n modulo that.
    pub(crate) brokers: i32,
    /// Slot n of the groups is owned by coordinator n modulo this.
    pub(crate) coordinators: i32,
    pub(crate) settings: Settings,
}

impl Default for Shape {
    fn default() -> Self {
        let settings = Settings {
            auto_create_topics: false,
            max_request_bytes: 1 << 20,
            queued_max_request_bytes: 128 << 20,
            max_connections: 100,
        };
        Self { gateways: 1, brokers: 1, coordinators: 1, settings }
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x0000_0003_8000_0001, Ordering::Relaxed)
    }
}

struct Brokers(BTreeMap<NodeId, Arc<FakeBroker>>);

impl Dial<dyn Broker> for Brokers {
    fn dial(&self, node: NodeId, address: &str) -> Arc<dyn Broker> {
        assert_eq!(address, format!("broker-{node}:9201"));
        self.0[&node].clone()
    }
}

struct Owners(BTreeMap<NodeId, Arc<FakeGroups>>);

impl Dial<dyn GroupCoordinator> for Owners {
    fn dial(&self, node: NodeId, address: &str) -> Arc<dyn GroupCoordinator> {
        assert_eq!(address, format!("coordinator-{node}:9401"));
        self.0[&node].clone()
    }
}

/// What says that a coordinator owns a slot.
pub(crate) fn slot(id: SlotId, owner: i32) -> Record {
    Record::Slot(Slot { id, epoch: 1, owner: NodeId(owner), incarnation: 1 })
}

pub(crate) fn topic_id(name: &str) -> TopicId {
    let mut id = [b'_'; 16];
    let bytes = name.as_bytes();
    id[..bytes.len()].copy_from_slice(bytes);
    TopicId(Uuid::from_bytes(id))
}

pub(crate) fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic_id(topic), partition)
}

fn node(role: Role, id: i32, address: String) -> Record {
    Record::Node(Node { role, id: NodeId(id), incarnation: 1, address, rack: Some(format!("rack-{id}")) })
}

/// A topic on the journals of `brokers` brokers.
fn topic(name: &str, partitions: i32, brokers: i32) -> Topic {
    let partition = |index: i32| Partition { journal: JournalId((index % brokers) as u32), epoch_base: 2 };
    Topic {
        id: topic_id(name),
        name: name.into(),
        replication_factor: 1,
        partitions: (0..partitions).map(partition).collect(),
        configs: BTreeMap::new(),
    }
}

fn cluster(shape: &Shape) -> ClusterState {
    let mut state = ClusterState::new("the-cluster".into());
    state.revision = 1;
    let settings = [("num.partitions", "3"), ("default.replication.factor", "1")];
    state.settings = Arc::new(settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for id in 1..=shape.gateways {
        state.upsert(node(Role::Gateway, id, format!("gateway-{id}:9092")));
    }
    state.upsert(node(Role::Storage, 1, "storage-1:9301".into()));
    for id in 0..shape.coordinators {
        state.upsert(node(Role::Coordinator, id, format!("coordinator-{id}:9401")));
    }
    if shape.coordinators > 0 {
        (0..route::SLOTS).for_each(|id| state.upsert(slot(SlotId(id), id as i32 % shape.coordinators)));
    }
    let replicas = vec![Replica { node: NodeId(1), incarnation: 1 }];
    for id in 0..shape.brokers {
        state.upsert(node(Role::Broker, id, format!("broker-{id}:9201")));
        let journal = JournalId(id as u32);
        let isr = replicas.clone();
        state.upsert(Record::Journal(Journal { id: journal, epoch: 3, leader: NodeId(1), replicas: isr.clone(), isr }));
    }
    state
}

/// For all tests of the process: a subscriber of one thread is not asked about spans that another thread had before.
fn enable_spans() {
    static ENABLED: Once = Once::new();
    ENABLED.call_once(|| {
        let sink = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::sink);
        tracing::subscriber::set_global_default(sink.finish()).expect("nobody else sets it");
    });
}

impl Fixture {
    pub(crate) async fn start(shape: Shape) -> Self {
        enable_spans();
        let (sender, view) = ClusterView::of(cluster(&shape), ME);
        let brokers: BTreeMap<NodeId, Arc<FakeBroker>> =
            (0..shape.brokers).map(|id| (NodeId(id), Arc::default())).collect();
        let coordinator = Arc::new(FakeCoordinator::new(sender, shape.brokers));
        let owners: BTreeMap<NodeId, Arc<FakeGroups>> =
            (0..shape.coordinators).map(|id| (NodeId(id), Arc::default())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let service = Service::start(Deps {
            settings: shape.settings,
            listeners: vec![listener],
            coordinator: coordinator.clone(),
            brokers: Arc::new(Brokers(brokers.clone())),
            groups: Arc::new(Owners(owners.clone())),
            cluster: view,
            node: ME,
            entropy: Arc::new(Counting::default()),
            shutdown: shutdown.clone(),
        });
        let (brokers, owners) = (brokers.into_values().collect(), owners.into_values().collect());
        Self { address, brokers, coordinator, owners, shutdown, service }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn narrow_client(&self) -> Client {
        Client::connect_narrow(self.address).await
    }

    pub(crate) fn topic(&self, name: &str, partitions: i32) {
        self.coordinator.put(topic(name, partitions, self.brokers.len() as i32));
    }

    /// Sets a topic's configs.
    pub(crate) fn configure(&self, name: &str, configs: &[(&str, &str)]) {
        let partitions = self.coordinator.state().topic_named(name).unwrap().partitions.len();
        let mut changed = topic(name, partitions as i32, self.brokers.len() as i32);
        changed.configs = configs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.coordinator.put(changed);
    }

    /// The only broker, where there is one.
    pub(crate) fn broker(&self) -> &FakeBroker {
        assert_eq!(self.brokers.len(), 1);
        &self.brokers[0]
    }

    /// The only owner of groups, where there is one.
    pub(crate) fn owner(&self) -> &FakeGroups {
        assert_eq!(self.owners.len(), 1);
        &self.owners[0]
    }

    /// A group that clients see at a gateway, of many.
    pub(crate) fn group_at(&self, gateway: NodeId) -> String {
        let state = self.coordinator.state();
        let at = |group: &String| route::gateway_for_group(&state, group).unwrap().id == gateway;
        (0..).map(|n| format!("group-{n}")).find(at).unwrap()
    }

    /// Makes another coordinator the owner of a group's slot, or nobody.
    pub(crate) fn move_group(&self, group: &str, owner: Option<i32>) {
        let id = route::slot_for(group);
        self.coordinator.change(|state| match owner {
            Some(owner) => state.upsert(slot(id, owner)),
            None => state.remove(RecordKey::Slot(id)),
        });
    }

    /// The broker that serves a partition.
    pub(crate) fn broker_of(&self, topic: &str, partition: i32) -> &FakeBroker {
        let state = self.coordinator.state();
        let journal = state.partition(at(topic, partition)).unwrap().journal;
        let id = route::broker_for(&state, journal).unwrap().id;
        &self.brokers[id.0 as usize]
    }

    /// The first partition of a topic that clients see at this gateway.
    pub(crate) fn partition_of(&self, topic: &str, gateway: NodeId) -> i32 {
        let state = self.coordinator.state();
        let leads = |partition: &i32| route::gateway_for(&state, at(topic, *partition)).unwrap().id == gateway;
        (0..).find(leads).unwrap()
    }
}
