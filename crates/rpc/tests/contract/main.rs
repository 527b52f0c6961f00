//! What callers of the service traits may rely on, whether the service is in their process or behind a hop.

// The helpers are tests too.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod broker;
mod coordinator;
mod fakes;
mod faults;
mod group;
mod hop;
mod storage;
