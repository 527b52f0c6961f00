//! Produce, versions 3 to 13: the request without copying its records, and the response.

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::{PartitionProduceData, ProduceRequest, TopicProduceData};
pub use response::{BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
