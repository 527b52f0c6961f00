//! The primitive types of the protocol, as <https://kafka.apache.org/protocol> names them, for the messages that are
//! not left to the codec library.

mod error;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{DecodeError, EncodeError};
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;
