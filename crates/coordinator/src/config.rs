//! What an operator may set on a coordinator.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemark_model::Role;
use tidemark_runtime::ServiceConfig;
use tidemark_runtime::telemetry::Telemetry;

use crate::Error;
use crate::store::{Embedded, Etcd, EtcdOptions, MetadataStore};

/// Partitions of a topic share a record of offsets, which has to fit into a transaction of the metadata store.
const MAX_OFFSET_METADATA: u32 = 8_192;

/// The name of the cluster within an etcd, where the address gives none.
const DEFAULT_CLUSTER: &str = "main";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the other services reach this coordinator by gRPC, `host:port`.
    pub listen: String,
    /// Where the others reach it instead of `listen`, `host:port`; port 0 is the port of `listen`. Empty: `listen`, by the
    /// machine's host name where that is all interfaces. Coordinators know each other by it.
    pub advertise: String,
    /// The rack or availability zone this coordinator is in; empty for none.
    pub rack: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: String,
    /// The metadata store: `etcd://[user:password@]host:port[,host:port][/cluster]`, or `file:///path` for a store of
    /// this process alone. `cluster` tells clusters in one etcd apart.
    pub metadata: String,
    /// The cluster's bucket, as in storage's configuration: the metadata is copied there, so that a lost cluster can be rebuilt
    /// (`tidemark storage rebuild`).
    pub object_store: String,
    /// Milliseconds after which a change of the metadata is in the bucket at the latest, topics within seconds. A rebuilt
    /// cluster has forgotten commits of offsets for so long.
    pub metadata_snapshot_interval_ms: u64,
    /// The cluster's id. Empty: the one it has, or a new random one.
    pub cluster_id: String,
    /// Partitions of topics that are created without saying how many.
    pub num_partitions: i32,
    /// Replicas of topics that are created without saying how many.
    pub default_replication_factor: i16,
    /// How long a node that says nothing stays in the cluster state. etcd knows whole seconds, from two on.
    pub node_lease_ms: u64,
    /// The same for coordinators, whose groups go to others then. Gateways let clients wait for that for nine seconds, which
    /// is as long as any client does, so more than seven lets clients see that a coordinator has died.
    pub coordinator_lease_ms: u64,
    /// Kafka's `group.min.session.timeout.ms`: the shortest session that a member of the classic protocol may ask for.
    pub group_min_session_timeout_ms: u64,
    /// Kafka's `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: u64,
    /// Kafka's `group.initial.rebalance.delay.ms`: how long an empty group waits for more members when one has come.
    pub group_initial_rebalance_delay_ms: u64,
    /// Kafka's `group.max.size`: the most members of a group of the classic protocol.
    pub group_max_size: u32,
    /// Kafka's `group.consumer.session.timeout.ms`: how long a member of a group of KIP-848 may be silent, where nothing is
    /// set on the group.
    pub group_consumer_session_timeout_ms: u64,
    /// Kafka's `group.consumer.heartbeat.interval.ms`: how often such a member is told to be heard.
    pub group_consumer_heartbeat_interval_ms: u64,
    /// Kafka's `offset.metadata.max.bytes`: the longest metadata of a committed offset.
    pub offset_metadata_max_bytes: u32,
    /// Kafka's `offsets.retention.minutes`: how long offsets are kept that nobody uses.
    pub offsets_retention_minutes: u64,
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            listen: "127.0.0.1:9401".into(),
            advertise: String::new(),
            rack: String::new(),
            http: "127.0.0.1:9402".into(),
            metadata: "etcd://127.0.0.1:2379".into(),
            object_store: String::new(),
            metadata_snapshot_interval_ms: settings.snapshot_interval.as_millis() as u64,
            cluster_id: String::new(),
            num_partitions: settings.num_partitions,
            default_replication_factor: settings.default_replication_factor,
            node_lease_ms: settings.node_lease.as_millis() as u64,
            coordinator_lease_ms: settings.coordinator_lease.as_millis() as u64,
            group_min_session_timeout_ms: settings.groups.min_session_timeout.as_millis() as u64,
            group_max_session_timeout_ms: settings.groups.max_session_timeout.as_millis() as u64,
            group_initial_rebalance_delay_ms: settings.groups.initial_rebalance_delay.as_millis() as u64,
            group_max_size: settings.groups.max_size as u32,
            group_consumer_session_timeout_ms: settings.groups.consumer_session_timeout.as_millis() as u64,
            group_consumer_heartbeat_interval_ms: settings.groups.consumer_heartbeat_interval.as_millis() as u64,
            offset_metadata_max_bytes: settings.groups.offset_metadata_max_bytes as u32,
            offsets_retention_minutes: settings.groups.offsets_retention.as_secs() / 60,
            telemetry: Telemetry::default(),
        }
    }
}

impl ServiceConfig for Config {
    fn http(&self) -> &str {
        &self.http
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

/// What the service itself decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What tells this cluster's keys from those of others in the same store.
    pub cluster: String,
    pub cluster_id: Option<String>,
    /// What this coordinator is registered as. Another process that starts with the same name takes its place.
    pub name: String,
    /// Where the others reach it by gRPC, `host:port`.
    pub address: String,
    pub rack: Option<String>,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    /// Of nodes that are no coordinators. They get it by way of one: it is longer than they take to notice that theirs
    /// is gone and to find another.
    pub node_lease: Duration,
    pub coordinator_lease: Duration,
    /// The longest that a change is not in a snapshot.
    pub snapshot_interval: Duration,
    pub groups: GroupSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: DEFAULT_CLUSTER.into(),
            cluster_id: None,
            name: "coordinator".into(),
            address: String::new(),
            rack: None,
            num_partitions: 1,
            default_replication_factor: 1,
            node_lease: Duration::from_secs(10),
            coordinator_lease: Duration::from_secs(6),
            snapshot_interval: Duration::from_secs(60),
            groups: GroupSettings::default(),
        }
    }
}

/// What groups decide by. The defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
    /// How long the first rebalance of a group waits for more members, each time that more came.
    pub initial_rebalance_delay: Duration,
    /// The most members of a group of the classic protocol.
    pub max_size: usize,
    /// The longest metadata of a committed offset.
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention: Duration,
    pub consumer_session_timeout: Duration,
    pub consumer_session_timeout_bounds: RangeInclusive<Duration>,
    pub consumer_heartbeat_interval: Duration,
    pub consumer_heartbeat_interval_bounds: RangeInclusive<Duration>,
    /// The most members of a group of the consumer protocol.
    pub consumer_max_size: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            min_session_timeout: ms(6_000),
            max_session_timeout: ms(1_800_000),
            initial_rebalance_delay: ms(3_000),
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            offsets_retention: Duration::from_secs(10_080 * 60),
            consumer_session_timeout: ms(45_000),
            consumer_session_timeout_bounds: ms(45_000)..=ms(60_000),
            consumer_heartbeat_interval: ms(5_000),
            consumer_heartbeat_interval_bounds: ms(5_000)..=ms(15_000),
            consumer_max_size: i32::MAX as usize,
        }
    }
}

impl Settings {
    /// How long a node stays in the cluster state that is not heard of.
    pub(crate) fn lease(&self, role: Role) -> Duration {
        match role {
            Role::Coordinator => self.coordinator_lease,
            Role::Gateway | Role::Broker | Role::Storage => self.node_lease,
        }
    }

    /// The settings that Kafka has too, by its names for broker configs.
    pub(crate) fn as_kafka_names(&self) -> BTreeMap<String, String> {
        let groups = &self.groups;
        let settings = [
            ("num.partitions", self.num_partitions.to_string()),
            ("default.replication.factor", self.default_replication_factor.to_string()),
            ("group.min.session.timeout.ms", groups.min_session_timeout.as_millis().to_string()),
            ("group.max.session.timeout.ms", groups.max_session_timeout.as_millis().to_string()),
            ("group.initial.rebalance.delay.ms", groups.initial_rebalance_delay.as_millis().to_string()),
            ("group.max.size", groups.max_size.to_string()),
            ("group.consumer.session.timeout.ms", groups.consumer_session_timeout.as_millis().to_string()),
            ("group.consumer.heartbeat.interval.ms", groups.consumer_heartbeat_interval.as_millis().to_string()),
            ("offset.metadata.max.bytes", groups.offset_metadata_max_bytes.to_string()),
            ("offsets.retention.minutes", (groups.offsets_retention.as_secs() / 60).to_string()),
        ];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Config {
    /// The settings, for the cluster of `metadata`, of a coordinator that the others reach at `address`.
    pub fn settings(&self, metadata: &Metadata, address: String) -> Settings {
        Settings {
            cluster: metadata.cluster().to_owned(),
            cluster_id: Some(self.cluster_id.clone()).filter(|id| !id.is_empty()),
            name: address.clone(),
            address,
            rack: Some(self.rack.clone()).filter(|rack| !rack.is_empty()),
            num_partitions: self.num_partitions.max(1),
            default_replication_factor: self.default_replication_factor.max(1),
            node_lease: Duration::from_millis(self.node_lease_ms.max(1)),
            coordinator_lease: Duration::from_millis(self.coordinator_lease_ms.max(1)),
            snapshot_interval: Duration::from_millis(self.metadata_snapshot_interval_ms.max(1)),
            groups: self.group_settings(),
        }
    }

    fn group_settings(&self) -> GroupSettings {
        let defaults = GroupSettings::default();
        let session = Duration::from_millis(self.group_consumer_session_timeout_ms.max(1));
        let heartbeat = Duration::from_millis(self.group_consumer_heartbeat_interval_ms.max(1));
        // What an operator sets for all groups may be set on one.
        let including =
            |bounds: RangeInclusive<Duration>, set: Duration| set.min(*bounds.start())..=set.max(*bounds.end());
        GroupSettings {
            min_session_timeout: Duration::from_millis(self.group_min_session_timeout_ms),
            max_session_timeout: Duration::from_millis(self.group_max_session_timeout_ms),
            initial_rebalance_delay: Duration::from_millis(self.group_initial_rebalance_delay_ms),
            max_size: self.group_max_size.max(1) as usize,
            offset_metadata_max_bytes: self.offset_metadata_max_bytes.min(MAX_OFFSET_METADATA) as usize,
            offsets_retention: Duration::from_secs(self.offsets_retention_minutes.saturating_mul(60)),
            consumer_session_timeout: session,
            consumer_session_timeout_bounds: including(defaults.consumer_session_timeout_bounds.clone(), session),
            consumer_heartbeat_interval: heartbeat,
            consumer_heartbeat_interval_bounds: including(
                defaults.consumer_heartbeat_interval_bounds.clone(),
                heartbeat,
            ),
            ..defaults
        }
    }
}

/// Where the metadata store is.
#[derive(Debug, Clone)]
pub enum Metadata {
    Etcd { options: EtcdOptions, cluster: String },
    File(PathBuf),
}

impl Metadata {
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::BadMetadata { url: without_password(url), reason: reason.to_owned() };
        if let Some(path) = url.strip_prefix("file://") {
            return if path.is_empty() { Err(bad("no path")) } else { Ok(Self::File(path.into())) };
        }
        let rest = url.strip_prefix("etcd://").ok_or_else(|| bad("not etcd://… or file://…"))?;
        let (authority, cluster) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => {
                let (name, password) = user.split_once(':').ok_or_else(|| bad("no password after the user"))?;
                (Some((name.to_owned(), password.to_owned())), hosts)
            }
            None => (None, authority),
        };
        let endpoints: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if endpoints.iter().any(|endpoint| !endpoint.contains(':')) {
            return Err(bad("an endpoint is not host:port"));
        }
        if cluster.contains('/') {
            return Err(bad("a cluster's name has no /"));
        }
        let cluster = if cluster.is_empty() { DEFAULT_CLUSTER } else { cluster };
        Ok(Self::Etcd { options: EtcdOptions { endpoints, user }, cluster: cluster.to_owned() })
    }

    /// What tells the cluster's keys from those of others in the store.
    pub fn cluster(&self) -> &str {
        match self {
            Self::Etcd { cluster, .. } => cluster,
            Self::File(_) => DEFAULT_CLUSTER,
        }
    }

    pub async fn open(&self) -> Result<Arc<dyn MetadataStore>, Error> {
        Ok(match self {
            Self::Etcd { options, .. } => Arc::new(Etcd::connect(options.clone()).await?),
            Self::File(path) => Arc::new(Embedded::open(path).await?),
        })
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_address_has_endpoints_and_perhaps_a_user_and_a_cluster() {
        let Ok(Metadata::Etcd { options, cluster }) = Metadata::parse("etcd://u:p@a:1,b:2/blue") else { panic!() };
        assert_eq!(options.endpoints, ["a:1", "b:2"]);
        assert_eq!(options.user, Some(("u".into(), "p".into())));
        assert_eq!(cluster, "blue");
        let Ok(Metadata::Etcd { options, cluster }) = Metadata::parse("etcd://a:1") else { panic!() };
        assert_eq!((options.endpoints, options.user, cluster.as_str()), (vec!["a:1".into()], None, "main"));
        assert!(matches!(Metadata::parse("file:///var/lib/x"), Ok(Metadata::File(path)) if path.ends_with("lib/x")));
    }

    #[test]
    fn a_bad_address_is_refused_without_telling_the_password() {
        for url in ["", "etcd://", "etcd://host", "file://", "http://a:1", "etcd://a:1/b/c", "etcd://u@a:1"] {
            assert!(matches!(Metadata::parse(url), Err(Error::BadMetadata { .. })), "{url}");
        }
        let error = Metadata::parse("etcd://u:secret@host").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
