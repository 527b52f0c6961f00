//! The coordinator as the owner of groups, over a hop.

mod client;
mod server;

pub(crate) use client::RemoteGroups;
pub(crate) use server::server;
