//! Whether what a producer sent may be appended, judged by the batch's header and checksum alone: the records are not
//! decompressed nor looked at one by one, but by [`recompressed`] for topics that ask for a codec of their own.
//!
//! The rules and their error codes are Kafka 4.2's (`ProduceRequest.validateRecords`, `UnifiedLog`, `LogValidator`), but
//! for what follows from not looking at records and from keeping a batch byte for byte:
//!
//! - timestamps are checked as the header gives them, which is the first record's and the largest;
//! - a compacted topic's records are not checked for keys;
//! - attributes that Kafka would overwrite, and bytes after the batch that it would cut off, are refused;
//! - a codec that does not exist is UNSUPPORTED_COMPRESSION_TYPE, where Kafka answers UNKNOWN_SERVER_ERROR.

mod builder;
mod compression;
mod records;
#[cfg(test)]
mod tests;

pub use builder::BatchBuilder;
use bytes::Bytes;
pub use compression::{Compression, decompressed, recompressed};
pub use records::{BadRecord, Record, Records, records};
use tidemark_model::batch::HEADER_LEN;
use tidemark_model::broker::BatchFault;
use tidemark_model::{Batch, BatchError};

use crate::error::ErrorCode;

/// Attribute: the broker set the timestamps.
const LOG_APPEND_TIME: i16 = 0x08;
/// Attribute: the base timestamp is a delete horizon, which only the log cleaner sets (KIP-534).
const DELETE_HORIZON: i16 = 0x40;
/// A record without a timestamp.
const NO_TIMESTAMP: i64 = -1;
/// A batch of no idempotent producer.
const NO_PRODUCER_ID: i64 = -1;
/// Bytes of a record without key, value and headers.
const MIN_RECORD_LEN: usize = 7;
/// The first Produce version whose batches may be compressed by zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// What a topic allows, and what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRules {
    /// `max.message.bytes`: of a whole batch as it is on the wire.
    pub max_message_bytes: usize,
    pub now_ms: i64,
    /// Whether `message.timestamp.type` is `LogAppendTime`: then the producer's timestamps do not count.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how far a timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
}

/// Why a batch is not appended. The client is told the fault's error code and the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RejectedBatch {
    pub fault: BatchFault,
    pub message: String,
}

/// Takes the one batch that `records`, the field of a Produce request, must hold. The batch shares its memory.
pub fn validate(records: Bytes, rules: &BatchRules) -> Result<Batch, RejectedBatch> {
    let batch = single(records)?;
    if batch.base_offset != 0 {
        let base_offset = batch.base_offset;
        return reject(BatchFault::InvalidRecord, format!("base offset is {base_offset} where a producer sends 0"));
    }
    let size = batch.wire_len();
    if size > rules.max_message_bytes {
        let max = rules.max_message_bytes;
        return reject(
            BatchFault::TooLarge,
            format!("batch of {size} bytes is over the topic's max.message.bytes of {max}"),
        );
    }
    if !batch.crc_matches() {
        let crc = batch.crc();
        return reject(
            BatchFault::Corrupt,
            format!("CRC of the batch is not {crc:#010x}, as its header at byte 17 says"),
        );
    }
    check_attributes(&batch)?;
    check_counts(&batch)?;
    check_producer(&batch)?;
    check_timestamps(&batch, rules)?;
    Ok(batch)
}

/// Whether a Produce request of this version may carry these records: zstd came with version 7, and consumers that know
/// no newer one could not read it (KIP-110).
pub fn check_produce_version(version: i16, records: &Bytes) -> Result<(), RejectedBatch> {
    let zstd = || Batch::split_from(&mut records.clone()).is_ok_and(|batch| codec(&batch) == Some(Codec::Zstd));
    if version < FIRST_ZSTD_VERSION && zstd() {
        return reject(
            BatchFault::UnsupportedCompression,
            format!("Produce version {version} is not allowed to use zstd, version {FIRST_ZSTD_VERSION} is"),
        );
    }
    Ok(())
}

/// None for a codec that does not exist.
pub fn codec(batch: &Batch) -> Option<Codec> {
    match batch.attributes() & 0x07 {
        0 => Some(Codec::None),
        1 => Some(Codec::Gzip),
        2 => Some(Codec::Snappy),
        3 => Some(Codec::Lz4),
        4 => Some(Codec::Zstd),
        _ => None,
    }
}

impl RejectedBatch {
    pub fn code(&self) -> ErrorCode {
        self.fault.into()
    }
}

fn reject<T>(fault: BatchFault, message: String) -> Result<T, RejectedBatch> {
    Err(RejectedBatch { fault, message })
}

/// From Produce version 3 on there is one batch of magic 2, never more or less.
fn single(mut records: Bytes) -> Result<Batch, RejectedBatch> {
    if records.is_empty() {
        return reject(BatchFault::InvalidRecord, "records hold no batch".to_owned());
    }
    let batch = Batch::split_from(&mut records).or_else(|error| {
        let fault = match error {
            // Kafka sees no batch at all in one that is cut.
            BatchError::Truncated { .. } | BatchError::BadMagic(0 | 1) => BatchFault::InvalidRecord,
            BatchError::BadLength(_) | BatchError::BadMagic(_) => BatchFault::Corrupt,
        };
        reject(fault, error.to_string())
    })?;
    if !records.is_empty() {
        let (after, from) = (records.len(), batch.wire_len());
        let message = format!("{after} bytes from byte {from} on follow the one batch that is allowed");
        return reject(BatchFault::InvalidRecord, message);
    }
    Ok(batch)
}

fn check_attributes(batch: &Batch) -> Result<(), RejectedBatch> {
    let attributes = batch.attributes();
    if codec(batch).is_none() {
        return reject(BatchFault::UnsupportedCompression, format!("attributes {attributes:#06x} name no codec"));
    }
    if batch.is_control() {
        return reject(BatchFault::InvalidRecord, "clients are not allowed to write control records".to_owned());
    }
    if attributes & DELETE_HORIZON != 0 {
        return reject(BatchFault::InvalidRecord, "clients are not allowed to set a delete horizon".to_owned());
    }
    if attributes & LOG_APPEND_TIME != 0 {
        let message = "producers should not set the timestamp type to LogAppendTime".to_owned();
        return reject(BatchFault::InvalidTimestamp, message);
    }
    Ok(())
}

fn check_counts(batch: &Batch) -> Result<(), RejectedBatch> {
    let count = batch.record_count();
    let last_offset_delta = batch.last_offset_delta();
    if count <= 0 {
        return reject(BatchFault::InvalidRecord, format!("record count at byte 57 is {count}"));
    }
    if i64::from(last_offset_delta) + 1 != i64::from(count) {
        let message = format!("last offset delta {last_offset_delta} does not fit to {count} records");
        return reject(BatchFault::InvalidRecord, message);
    }
    let bytes = batch.wire_len() - HEADER_LEN;
    let min = if codec(batch) == Some(Codec::None) { count as usize * MIN_RECORD_LEN } else { 1 };
    if bytes < min {
        return reject(BatchFault::InvalidRecord, format!("{count} records do not fit into {bytes} bytes"));
    }
    Ok(())
}

fn check_producer(batch: &Batch) -> Result<(), RejectedBatch> {
    let (id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
    if id > NO_PRODUCER_ID && (sequence < 0 || epoch < 0) {
        let message = format!("producer {id} sent epoch {epoch} and sequence {sequence}");
        return reject(BatchFault::InvalidRecord, message);
    }
    if batch.is_transactional() && id <= NO_PRODUCER_ID {
        return reject(BatchFault::InvalidRecord, "a transactional batch has no producer id".to_owned());
    }
    Ok(())
}

fn check_timestamps(batch: &Batch, rules: &BatchRules) -> Result<(), RejectedBatch> {
    if rules.log_append_time {
        return Ok(());
    }
    for timestamp in [batch.base_timestamp(), batch.max_timestamp()] {
        let age = rules.now_ms.saturating_sub(timestamp);
        let past = age > rules.timestamp_before_max_ms;
        let future = age.saturating_neg() > rules.timestamp_after_max_ms;
        if timestamp != NO_TIMESTAMP && (past || future) {
            let from = rules.now_ms.saturating_sub(rules.timestamp_before_max_ms);
            let to = rules.now_ms.saturating_add(rules.timestamp_after_max_ms);
            let message = format!("timestamp {timestamp} is out of range: it should be within [{from}, {to}]");
            return reject(BatchFault::InvalidTimestamp, message);
        }
    }
    Ok(())
}
