//! Frames off a socket, in as few reads and as few copies as can be.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidemark_wire::frame::{self, FrameError, LENGTH_LEN};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use crate::admission::{ConnectionAdmission, Grant};

/// Bytes asked of the socket between frames: many small requests come in one read.
const READ_CHUNK: usize = 64 << 10;
/// As much of it as a connection begins with. It grows when a read fills it: of thousands of connections most send a
/// heartbeat now and then, and each keeps its chunk.
const FIRST_CHUNK: usize = 4 << 10;
/// Less room than this part of a chunk is not read into: the rest of the buffer is given up for a new one.
const LEAST_PART: usize = 8;
/// What is allocated at once for a frame that announced at least as much. Beyond it memory doubles with what arrives.
const EAGER_FRAME: usize = 1 << 20;
/// How long a connection without a request is kept (`connections.max.idle.ms`).
const MAX_IDLE: Duration = Duration::from_secs(600);
/// How long the next byte of a request that has begun may take. Such a request holds memory that others wait for.
const MAX_STALL: Duration = Duration::from_secs(60);

/// A request as it came, without its length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) grant: Grant,
}

/// Why there is no next frame. See [`super::Ended`].
#[derive(Debug)]
pub(super) enum ReadError {
    Closed,
    Truncated(usize),
    Idle(Duration),
    Stalled(Duration),
    Frame(FrameError),
    Io(std::io::Error),
}

#[derive(Debug)]
pub(super) struct FrameReader<R> {
    io: R,
    admission: ConnectionAdmission,
    max_request_bytes: usize,
    buffer: BytesMut,
    /// What is asked for between frames.
    chunk: usize,
    /// The length of the frame at the front of the buffer, once it is known; it is then no longer in the buffer.
    length: Option<usize>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, admission: ConnectionAdmission, max_request_bytes: usize) -> Self {
        Self { io, admission, max_request_bytes, buffer: BytesMut::new(), chunk: FIRST_CHUNK, length: None }
    }

    pub(super) async fn next(&mut self) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.split()? {
                return Ok(frame);
            }
            let room = self.make_room();
            let between = self.buffer.is_empty() && self.length.is_none();
            let limit = if between { MAX_IDLE } else { MAX_STALL };
            let mut target = (&mut self.buffer).limit(room);
            match timeout(limit, self.io.read_buf(&mut target)).await {
                Ok(Ok(0)) if between => return Err(ReadError::Closed),
                Ok(Ok(0)) => return Err(ReadError::Truncated(self.buffer.len())),
                Ok(Ok(bytes)) => {
                    if bytes >= self.chunk {
                        self.chunk = READ_CHUNK.min(4 * self.chunk);
                    }
                    self.admission.arrived(bytes).await;
                }
                Ok(Err(error)) => return Err(ReadError::Io(error)),
                Err(_) if between => return Err(ReadError::Idle(limit)),
                Err(_) => return Err(ReadError::Stalled(limit)),
            }
        }
    }

    /// The frame at the front of the buffer, when all of it has arrived.
    fn split(&mut self) -> Result<Option<Frame>, ReadError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(prefix) = self.buffer.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
                let length = frame::frame_len(*prefix, self.max_request_bytes).map_err(ReadError::Frame)?;
                self.buffer.advance(LENGTH_LEN);
                *self.length.insert(length)
            }
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        let bytes = self.buffer.split_to(length).freeze();
        Ok(Some(Frame { bytes, grant: self.admission.take(LENGTH_LEN + length) }))
    }

    /// Makes room for the next read and says how many bytes to take: between small frames a chunk, so that many come
    /// at once, but of a large frame no more than the rest, so that the next one begins in a buffer of its own and
    /// nothing of it is copied.
    fn make_room(&mut self) -> usize {
        let missing = self.length.map_or(0, |length| length - self.buffer.len());
        let room = self.buffer.capacity() - self.buffer.len();
        if missing <= READ_CHUNK {
            if room < missing.max(self.chunk / LEAST_PART) {
                self.buffer.reserve(missing.max(self.chunk));
            }
            return READ_CHUNK;
        }
        if room < missing {
            self.buffer.reserve(missing.min(EAGER_FRAME.max(self.buffer.len())));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::admission::Admission;

    fn reader(max: usize) -> (tokio::io::DuplexStream, FrameReader<tokio::io::DuplexStream>) {
        let (client, server) = tokio::io::duplex(256 << 10);
        let admission = Admission::new(1, 128 << 20).connection().unwrap();
        (client, FrameReader::new(server, admission, max))
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_back_whole_and_in_order() {
        let sizes = [8, 100, READ_CHUNK - 4, READ_CHUNK, READ_CHUNK + 1, 3 * EAGER_FRAME, 9, EAGER_FRAME, 70_000];
        let (mut client, mut reader) = reader(4 * EAGER_FRAME);
        let sent = tokio::spawn(async move {
            for (n, size) in sizes.into_iter().enumerate() {
                client.write_all(&framed(&vec![n as u8; size])).await.unwrap();
            }
        });
        for (n, size) in sizes.into_iter().enumerate() {
            let frame = reader.next().await.unwrap();
            assert!(frame.bytes.len() == size && frame.bytes.iter().all(|b| *b == n as u8), "frame {n}");
        }
        sent.await.unwrap();
        assert!(matches!(reader.next().await, Err(ReadError::Closed)));
    }

    #[tokio::test]
    async fn a_connection_of_small_requests_keeps_little_and_one_of_many_reads_much_at_once() {
        let (mut client, mut reader) = reader(1 << 20);
        for _ in 0..1_000 {
            client.write_all(&framed(&[7; 100])).await.unwrap();
            reader.next().await.unwrap();
            assert!(reader.buffer.capacity() <= FIRST_CHUNK, "{}", reader.buffer.capacity());
        }
        for _ in 0..3 {
            client.write_all(&framed(&[7; 100]).repeat(1_000)).await.unwrap();
            for _ in 0..1_000 {
                reader.next().await.unwrap();
            }
        }
        assert_eq!(reader.chunk, READ_CHUNK);
    }

    #[tokio::test]
    async fn an_announced_length_is_not_allocated() {
        let (mut client, mut reader) = reader(100 << 20);
        client.write_all(&(100i32 << 20).to_be_bytes()).await.unwrap();
        client.write_all(&[7; 1000]).await.unwrap();
        drop(client);
        assert!(matches!(reader.next().await, Err(ReadError::Truncated(1000))));
        assert!(reader.buffer.capacity() <= 2 * EAGER_FRAME, "{}", reader.buffer.capacity());
    }

    #[tokio::test]
    async fn a_length_over_the_limit_or_negative_is_refused_before_anything_is_read() {
        for length in [101, -1, i32::MIN, i32::MAX, 0, 7] {
            let (mut client, mut reader) = reader(100);
            client.write_all(&i32::to_be_bytes(length)).await.unwrap();
            assert!(matches!(reader.next().await, Err(ReadError::Frame(_))), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_request_ends_sooner_than_an_idle_connection() {
        let (_client, mut idle) = reader(100);
        assert!(matches!(idle.next().await, Err(ReadError::Idle(_))));
        let (mut client, mut stalled) = reader(100);
        client.write_all(&[0, 0, 0, 50, 1]).await.unwrap();
        assert!(matches!(stalled.next().await, Err(ReadError::Stalled(_))));
    }
}
