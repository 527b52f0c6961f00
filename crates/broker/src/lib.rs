//! The broker: Tidemark's stateless data plane.
//!
//! A produce is validated and sent to its journal's leader ([`produce`]). A fetch is gathered ([`fetch`]) from the
//! memory that the leaders' tail streams feed ([`tail`]), from the leader itself ([`leader`]), or from the object store through a
//! cache ([`cold`]). Everything here is soft state: killing a broker loses nothing.

pub mod cold;
pub mod config;
pub mod error;
mod fetch;
mod leader;
mod locate;
mod metrics;
mod offsets;
mod produce;
mod recompress;
mod service;
mod tail;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use error::StartError;
pub use service::{Dependencies, Service};
