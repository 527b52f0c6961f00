//! The broker, over a hop.

mod client;
mod server;

pub(crate) use client::RemoteBroker;
pub use server::serve_broker;
