//! What `build.rs` generates of `proto/tidemark/v1`.

#![allow(
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::semicolon_if_nothing_returned,
    missing_debug_implementations
)]

tonic::include_proto!("tidemark.v1");
