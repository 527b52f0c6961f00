//! What a service's `run` is handed so that a whole cluster can be simulated: time of day, entropy, and how to reach
//! another service.

use std::fmt::Debug;
use std::sync::Arc;

use crate::NodeId;

/// The time of day. Durations and timers come from tokio instead, which a simulation pauses.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// A source of random numbers: the operating system's in production, one seed's in a simulation.
pub trait Entropy: Debug + Send + Sync {
    fn next_u64(&self) -> u64;
}

/// Finds the service that a node runs, without connecting yet. Standalone answers with the one in its own process.
pub trait Dial<T: ?Sized>: Send + Sync {
    /// `address` is what the node registered, `host:port`. Repeated calls share one connection.
    fn dial(&self, node: NodeId, address: &str) -> Arc<T>;
}
