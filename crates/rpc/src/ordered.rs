//! Requests that keep their order: one stream of messages from a client to a server, and answers by sequence number.
//!
//! A request takes its place when it is handed to the [`Link`], and everything that waits when the stream can take
//! more goes in one message. The server starts requests in the order of the stream and answers each when it is done.
//! When a stream breaks, everything unanswered fails, sent or not: nothing is ever sent twice, and nothing that was
//! handed over later overtakes what the broken stream may still deliver ([`fence`]).

mod fence;
mod link;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use fence::{Fence, Identity};
pub(crate) use link::{Lane, Link, Outgoing, answer};
pub(crate) use serve::{Service, serve};
