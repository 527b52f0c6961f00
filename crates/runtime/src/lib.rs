//! What every `main` of Tidemark needs, and nothing that a service decides.
//!
//! A process meets the modules in this order: it reads its [`config`], starts [`telemetry`], [`bind`]s its listeners,
//! serves [`health`] and [`metrics`] over [`http`], joins the [`cluster`] and follows its state, and drains at
//! [`shutdown`]. [`service`] does all of that for a `main` that has nothing special to do. [`seams`] has the clock and
//! the entropy that production hands to a service.

pub mod backoff;
pub mod bind;
pub mod cluster;
pub mod config;
pub mod health;
pub mod http;
pub mod memory;
pub mod metrics;
mod process;
pub mod seams;
pub mod service;
pub mod shutdown;
pub mod telemetry;

pub use cluster::ClusterView;
pub use health::Health;
pub use seams::{OsEntropy, SystemClock};
pub use service::{Host, ServiceConfig};
