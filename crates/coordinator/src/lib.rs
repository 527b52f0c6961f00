//! The control plane: topics, journals, nodes and producer ids. The only crate that knows etcd.
//!
//! A call meets the modules in this order: the [`Service`] is `tidemark_model::Coordinator`; `nodes` registers who
//! joins and feeds it the cluster `state`, which `follow` keeps up to date by a watch; `journals`, `topics` (by
//! `topic_rules` and `placement`) and `counters` change `records` by conditional transactions of the [`store`]. It is
//! `tidemark_model::GroupCoordinator` too, for the `groups` of the `slots` that it owns. Behind all of them `maintenance` keeps
//! the store small, and `backup` writes to the bucket what a lost store is made from again.
//!
//! Any number of coordinators run side by side on one store. Each caches the state, and each write is conditional on what
//! it was decided by. Only consumer groups have owners: each coordinator has a share of their `slots`.

mod backup;
pub mod config;
mod counters;
mod error;
mod follow;
mod groups;
mod journals;
mod maintenance;
mod metrics;
mod nodes;
mod placement;
pub mod rebuild;
mod records;
mod service;
mod slots;
mod state;
pub mod store;
mod topic_rules;
mod topics;

pub use config::{Config, GroupSettings, Metadata, Settings};
pub use error::Error;
pub use service::Service;
