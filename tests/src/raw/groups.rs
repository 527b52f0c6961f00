//! The requests of consumer groups, each in all of its versions.

mod admin;
mod classic;
mod consumer;
mod offsets;
mod subscription;

pub use admin::*;
pub use classic::*;
pub use consumer::*;
pub use offsets::*;
pub use subscription::*;
