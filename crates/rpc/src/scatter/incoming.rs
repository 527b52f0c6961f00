//! Messages out of HTTP/2 data.
//!
//! The library's decoder gathers a message in one buffer, which costs a copy of every record. Here a message is decoded
//! where it lies: a payload that came in one frame stays the memory that it was read into, and only one that frames cut
//! through is copied, once.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

use super::PREFIX;
use crate::limits::MAX_MESSAGE;

/// The messages of a request or of an answer. After an error there is nothing more.
pub(crate) struct Incoming<M> {
    body: Body,
    data: Chunks,
    /// The length of the message at the front, once it is known; what stands before it is then no longer in `data`.
    length: Option<usize>,
    /// Bytes of the messages that were given.
    given: usize,
    of_request: bool,
    ended: bool,
    of: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Incoming<M> {
    pub(super) fn request(body: Body) -> Self {
        Self { body, data: Chunks::default(), length: None, given: 0, of_request: true, ended: false, of: PhantomData }
    }

    pub(super) fn answer(body: Body) -> Self {
        Self { of_request: false, ..Self::request(body) }
    }

    /// The next message, or nothing when the peer ended the stream in good order.
    pub(crate) async fn message(&mut self) -> Result<Option<M>, Status> {
        self.next().await.transpose()
    }

    /// Bytes of the messages that were given.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// The message at the front of what came, when all of it has.
    fn split(&mut self) -> Result<Option<M>, Status> {
        let length = match self.length {
            Some(length) => length,
            None if self.data.remaining() < PREFIX => return Ok(None),
            None => {
                if self.data.get_u8() != 0 {
                    return Err(Status::unimplemented("the message is compressed, which nobody asked for"));
                }
                let length = self.data.get_u32() as usize;
                if length > MAX_MESSAGE {
                    let why = format!("a message of {length} bytes where {MAX_MESSAGE} are the limit");
                    return Err(Status::out_of_range(why));
                }
                *self.length.insert(length)
            }
        };
        if self.data.remaining() < length {
            return Ok(None);
        }
        (self.length, self.given) = (None, self.given.saturating_add(length));
        let message = M::decode((&mut self.data).take(length));
        message.map(Some).map_err(|error| Status::internal(format!("a message does not decode: {error}")))
    }

    /// What the end of the body means.
    fn end(&self, trailers: Option<&HeaderMap>) -> Result<(), Status> {
        match trailers.and_then(Status::from_header_map) {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ if self.length.is_some() || self.data.has_remaining() => {
                Err(Status::internal("the stream ended within a message"))
            }
            _ => Ok(()),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<M>, Status>> {
        loop {
            if let Some(message) = self.split()? {
                return Poll::Ready(Ok(Some(message)));
            }
            let trailers = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.data.push(data);
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                // A caller that wants no answer any more. What it asked for before is done all the same.
                Some(Err(status)) if self.of_request && status.code() == Code::Cancelled => {
                    self.ended = true;
                    return Poll::Ready(Ok(None));
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => None,
            };
            self.ended = true;
            return Poll::Ready(self.end(trailers.as_ref()).map(|()| None));
        }
    }
}

impl<M: Message + Default> Stream for Incoming<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_message(cx));
        self.ended |= message.is_err();
        Poll::Ready(message.transpose())
    }
}

/// Frames' data that was not decoded yet, one behind another.
#[derive(Debug, Default)]
struct Chunks {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.remaining += chunk.len();
            self.chunks.push_back(chunk);
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "no more than there is");
        self.remaining -= count;
        while count > 0
            && let Some(first) = self.chunks.front_mut()
        {
            let taken = count.min(first.len());
            first.advance(taken);
            count -= taken;
            if first.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// A share of one chunk where that has all of it.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.remaining, "no more than there is");
        match self.chunks.front_mut() {
            Some(first) if first.len() > len => {
                self.remaining -= len;
                first.split_to(len)
            }
            Some(first) if first.len() == len => {
                self.remaining -= len;
                self.chunks.pop_front().unwrap_or_default()
            }
            _ => {
                let mut together = BytesMut::with_capacity(len);
                while together.len() < len {
                    let taken = self.chunk().len().min(len - together.len());
                    together.extend_from_slice(&self.chunk()[..taken]);
                    self.advance(taken);
                }
                together.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests;
