//! One message, in pieces.

use std::collections::VecDeque;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use super::PREFIX;
use crate::limits::MAX_MESSAGE;

/// From here on a payload is not copied: what comes below is cheaper to copy than to keep apart, since each piece is a
/// frame of its own.
const APART: usize = 8 * 1024;

/// A message with what stands before it, in as many pieces as it has large payloads and what is between.
pub(super) fn encode(message: &impl Message) -> Result<VecDeque<Bytes>, Status> {
    let length = message.encoded_len();
    if length > MAX_MESSAGE {
        return Err(Status::out_of_range(format!("a message of {length} bytes where {MAX_MESSAGE} are the limit")));
    }
    let mut pieces = Pieces::default();
    // What will be apart is reserved too when it is small, and not when it is large.
    pieces.between.reserve(PREFIX + length.min(APART));
    pieces.between.put_u8(0);
    pieces.between.put_u32(length as u32);
    message.encode(&mut pieces).map_err(|error| Status::internal(error.to_string()))?;
    pieces.cut();
    Ok(pieces.chunks)
}

/// A buffer that keeps large payloads apart from the rest.
#[derive(Default)]
struct Pieces {
    chunks: VecDeque<Bytes>,
    between: BytesMut,
}

impl Pieces {
    fn cut(&mut self) {
        if !self.between.is_empty() {
            self.chunks.push_back(self.between.split().freeze());
        }
    }
}

// SAFETY: the trait is unsafe because of its contract on `chunk_mut` and `advance_mut`, which are those of the buffer
// between the pieces. `put` is a safe method, and what it keeps apart was never part of that buffer.
#[expect(unsafe_code, reason = "there is no safe way to be written to by the message encoder")]
unsafe impl BufMut for Pieces {
    fn remaining_mut(&self) -> usize {
        self.between.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.between.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.between.chunk_mut()
    }

    /// The encoder puts a payload as a `Bytes`, of which this takes a share.
    fn put<T: Buf>(&mut self, mut source: T) {
        if source.remaining() < APART {
            self.between.put(source);
            return;
        }
        self.cut();
        self.chunks.push_back(source.copy_to_bytes(source.remaining()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto as wire;

    fn requests(sizes: &[usize]) -> wire::ProduceRequests {
        let partition = |size: &usize| wire::ProducePartition { partition: None, records: vec![7; *size].into() };
        let request = |size| wire::ProduceRequest { partitions: vec![partition(size)], ..Default::default() };
        wire::ProduceRequests { first_sequence: 5, requests: sizes.iter().map(request).collect() }
    }

    proptest! {
        #[test]
        fn on_the_wire_it_is_what_the_library_would_write(sizes in proptest::collection::vec(0..4 * APART, 0..6)) {
            let message = requests(&sizes);
            let chunks = encode(&message).unwrap();
            let written: Vec<u8> = chunks.into_iter().flatten().collect();
            prop_assert_eq!(written[0], 0);
            prop_assert_eq!(&written[1..PREFIX], (message.encoded_len() as u32).to_be_bytes());
            prop_assert_eq!(&written[PREFIX..], message.encode_to_vec());
        }
    }

    #[test]
    fn a_large_payload_is_not_copied_and_small_ones_stay_together() {
        let message = requests(&[APART, 10, APART - 1, 2 * APART]);
        let chunks = encode(&message).unwrap();
        let large = |at: usize| message.requests[at].partitions[0].records.as_ptr();
        assert_eq!(chunks.len(), 4);
        assert_eq!((chunks[1].as_ptr(), chunks[3].as_ptr()), (large(0), large(3)));
    }

    #[test]
    fn a_message_above_the_limit_is_refused() {
        assert_eq!(encode(&requests(&[MAX_MESSAGE])).unwrap_err().code(), tonic::Code::OutOfRange);
    }
}
