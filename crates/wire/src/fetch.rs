//! Fetch, versions 4 to 18: the request, and the response whose records are written from the memory they are in.

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{FetchResponse, FetchableTopicResponse, PartitionData};
