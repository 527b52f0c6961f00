//! The nouns of Tidemark and the service traits.
//!
//! Everything else is built from these: no I/O, no serde and no gRPC here. A request meets the modules in this order:
//! a [`batch`] of a partition ([`ids`]) goes along a [`route`] that the [`cluster`] state gives, through the
//! [`broker`] to the [`storage`]; the [`coordinator`] keeps the state that all of them follow, and owns [`group`]s.

pub mod batch;
pub mod broker;
pub mod cluster;
pub mod coordinator;
pub mod group;
pub mod ids;
pub mod route;
pub mod seams;
pub mod segment;
pub mod storage;
pub mod topic_config;

pub use batch::{Batch, BatchError};
pub use broker::{Broker, BrokerError};
pub use cluster::{
    Claim, ClusterState, ClusterUpdate, Journal, Node, Partition, Record, RecordKey, Replica, Role, Slot, Topic,
};
pub use coordinator::{Coordinator, CoordinatorError, Registration};
pub use group::{GroupCoordinator, GroupError};
pub use ids::{JournalId, NodeId, SlotId, TopicId, TopicPartition};
pub use seams::{Clock, Dial, Entropy};
pub use segment::TieredRun;
pub use storage::{Storage, StorageError};
