//! The service traits over gRPC: clients that are them, and servers that call them.
//!
//! A call meets the modules in this order: [`dial`] finds the peer's client ([`broker`], [`storage`], [`coordinator`] or
//! `group`), `convert` makes messages of the model's types, either a unary call or an `ordered` stream carries
//! them over the `transport`, with large payloads not copied (`scatter`), to the same module's server, which calls the
//! trait. `status` says what a failed hop means, [`limits`] what is bounded by what. Produce, append and
//! what groups are asked travel on ordered streams, because their order is sacred; the rest is unary. Nothing outside this crate knows the messages of
//! `proto/`.

pub mod broker;
mod coalesce;
mod codec;
mod convert;
pub mod coordinator;
pub mod dial;
mod group;
pub mod limits;
mod ordered;
mod proto;
mod scatter;
mod status;
pub mod storage;
mod trace;
mod transport;

pub use broker::serve_broker;
pub use coordinator::{RemoteCoordinator, serve_coordinator};
pub use dial::{RemoteBrokers, RemoteGroupCoordinators, RemoteStorages};
pub use storage::serve_storage;
pub use transport::{AddressError, ServeError};
