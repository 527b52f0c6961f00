//! Why bytes are not a message, and why a message is not bytes.

/// The bytes are not a message of the version they claim. The connection cannot be trusted any more: log and close it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what} at byte {at} needs {needed} bytes and {left} are left")]
    Truncated { what: &'static str, at: usize, needed: usize, left: usize },
    #[error("{what} at byte {at} has length {length}")]
    BadLength { what: &'static str, at: usize, length: i64 },
    #[error("{what} at byte {at} claims {count} elements and {left} bytes are left")]
    BadCount { what: &'static str, at: usize, count: usize, left: usize },
    #[error("{what} at byte {at} must not be null")]
    Null { what: &'static str, at: usize },
    #[error("{what} at byte {at} is not UTF-8")]
    NotUtf8 { what: &'static str, at: usize },
    #[error("{what} at byte {at} is not a varint of 32 bits")]
    BadVarint { what: &'static str, at: usize },
    #[error("{what} at byte {at} has value {value}")]
    BadValue { what: &'static str, at: usize, value: i64 },
    #[error("{message} of {length} bytes is over {max}")]
    TooLarge { message: &'static str, length: usize, max: usize },
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{message}: {source}")]
    Message { message: &'static str, source: kafka_wire_core::DecodeError },
}

/// A response that cannot be written in the version asked for: a fault of ours. Log it and close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{what} of {length} bytes is over {max}")]
    TooLong { what: &'static str, length: usize, max: usize },
    #[error("a topic by {got} in version {version}")]
    WrongTopicRef { got: &'static str, version: i16 },
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{message}: {source}")]
    Message { message: &'static str, source: kafka_wire_core::EncodeError },
}
