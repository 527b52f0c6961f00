//! The storage node, over a hop.

mod client;
mod server;

pub(crate) use client::RemoteStorage;
pub use server::serve_storage;
