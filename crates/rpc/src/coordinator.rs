//! The coordinators, over a hop.

mod client;
mod server;

pub use client::RemoteCoordinator;
pub use server::serve_coordinator;
