//! The gateway from outside: a real loopback connection in front, scripted services behind.

mod admin;
mod bad_input;
mod drain;
mod fetch;
mod groups;
mod kit;
mod offsets;
mod pipelining;
mod produce;
mod sessions;
