//! Messages as HTTP/2 data whose payloads nobody copied.
//!
//! The library's encoder writes a message into one buffer, which costs a copy of every record and the memory for it.
//! Here a large payload stays the memory that it was, and goes to the socket between the bytes that stand around it
//! ([`pieces`]); at the other end it stays the memory that it was read into ([`incoming`]). On the wire it is the same.
//! [`call`] opens such a stream, [`answer`] serves calls so.

pub(crate) mod answer;
mod body;
pub(crate) mod call;
mod incoming;
mod pieces;

pub(crate) use incoming::Incoming;

/// The bytes before each message: a flag and the length.
const PREFIX: usize = 5;
