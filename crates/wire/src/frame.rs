//! Frames: four bytes of length, then that many bytes of a header and a message.

use std::any::Any;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use kafka_wire_core::StrBytes;

use crate::api::ApiKey;
use crate::codec::{DecodeError, Reader};

/// Bytes of a frame's length.
pub const LENGTH_LEN: usize = 4;
/// Bytes of a request header without its client id: less than this is no request.
const MIN_REQUEST_LEN: usize = 8;

/// The header of a request. The key is known; the version may be any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: ApiKey,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

/// Why bytes are not a request. Kafka closes the connection for each of these; log it, then do the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame length {0} is less than a request header")]
    TooShort(i32),
    #[error("frame length {length} is over the limit of {max}")]
    TooLong { length: i32, max: usize },
    #[error("unknown API key {api_key}, version {api_version}")]
    UnknownApi { api_key: i16, api_version: i16 },
    #[error("request header: {0}")]
    BadHeader(#[from] DecodeError),
}

/// A response as the pieces that a socket writes in turn. As a [`Buf`] it gives all of them to a vectored write, so
/// that record bytes go to the socket from the memory they are in.
#[derive(Debug, Clone, Default)]
pub struct ResponseFrame {
    /// None of them is empty.
    chunks: VecDeque<Bytes>,
    remaining: usize,
    /// What lasts as long as the frame does.
    _kept: Option<Arc<dyn Any + Send + Sync>>,
}

/// How many bytes follow the length of a frame. `max` is the listener's limit, Kafka's `socket.request.max.bytes`.
pub fn frame_len(length: [u8; LENGTH_LEN], max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(bytes) if bytes > max => Err(FrameError::TooLong { length, max }),
        Ok(bytes) if bytes >= MIN_REQUEST_LEN => Ok(bytes),
        _ => Err(FrameError::TooShort(length)),
    }
}

impl RequestHeader {
    /// Splits a frame, without its length, into its header and the body, which shares its memory.
    ///
    /// A version that does not exist has the header of the newest, so that it can be answered (KIP-511).
    pub fn split(frame: Bytes) -> Result<(Self, Bytes), FrameError> {
        let mut reader = Reader::new(frame, true);
        let code = reader.i16("API key")?;
        let api_version = reader.i16("API version")?;
        let Some(api_key) = ApiKey::from_code(code) else {
            return Err(FrameError::UnknownApi { api_key: code, api_version });
        };
        let correlation_id = reader.i32("correlation id")?;
        let client_id = reader.legacy_nullable_string("client id")?;
        if api_key.is_flexible(api_version) {
            reader.skip_tagged()?;
        }
        Ok((Self { api_key, api_version, correlation_id, client_id }, reader.rest()))
    }

    /// The version of the header that answers this request. ApiVersions has 0 always, because a client that does not
    /// know the server yet must be able to read it (KIP-511).
    pub fn response_header_version(&self) -> i16 {
        response_header_version(self.api_key, self.api_version)
    }
}

pub(crate) fn response_header_version(api_key: ApiKey, api_version: i16) -> i16 {
    i16::from(api_key != ApiKey::ApiVersions && api_key.is_flexible(api_version))
}

impl ResponseFrame {
    pub(crate) fn with_capacity(chunks: usize) -> Self {
        Self { chunks: VecDeque::with_capacity(chunks), remaining: 0, _kept: None }
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.remaining += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Keeps something until the frame is dropped, which is when it is written: a permit for its memory.
    #[must_use]
    pub fn keeping(self, kept: impl Any + Send + Sync) -> Self {
        Self { _kept: Some(Arc::new(kept)), ..self }
    }

    /// The pieces that are left, for a writer of its own.
    pub fn into_chunks(self) -> impl ExactSizeIterator<Item = Bytes> {
        self.chunks.into_iter()
    }
}

impl Buf for ResponseFrame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced by {count} with {} remaining", self.remaining);
        self.remaining -= count;
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
