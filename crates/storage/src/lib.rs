//! The storage service: orders appends, makes them durable, tiers them to the object store, and gives them back.
//!
//! An append meets the modules in this order: the [`service`] finds its [`journal`], which admits it, names it as an
//! [`entry`], and writes it to the [`wal`] on the [`disk`]; once durable it becomes [`state`], and goes to readers at the
//! [`tail`]. Others come by offset ([`read`], [`offsets`], [`lookup`]), and what is long past is found by [`folds`]. Behind all of them [`tier`] moves history to the
//! object store, and [`retention`] and [`deletion`] let its beginning go. [`start`] brings a node back from its [`data_dir`] and the bucket,
//! and [`rebuild`] makes of the bucket alone what a node can start on.

pub mod checkpoint;
mod claim;
mod codec;
pub mod config;
pub mod data_dir;
mod deletion;
pub mod disk;
pub mod entry;
pub mod error;
pub mod folds;
mod health;
pub mod inspect;
mod journal;
mod lookup;
mod metrics;
mod offsets;
mod read;
pub mod rebuild;
mod retention;
pub mod service;
mod stamp;
mod start;
pub mod state;
mod store;
mod tail;
#[cfg(test)]
mod testing;
mod tier;
pub mod wal;

pub use claim::claimed;
pub use codec::DecodeError;
pub use config::Config;
pub use data_dir::DataDir;
pub use error::StartError;
pub use service::{Dependencies, Service};
pub use tier::FoldLimits;
