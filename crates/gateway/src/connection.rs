//! One connection: frames are read, dispatched in the order they came, and answered in that order.
//!
//! Reader, handlers and writer are one task, so that a request costs no hop between threads and everything under way
//! ends with the connection.

mod reader;
mod turns;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemark_wire::api::ApiKey;
use tidemark_wire::frame::{FrameError, RequestHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::admission::ConnectionAdmission;
use crate::handlers;
use crate::metrics;
use crate::service::Gateway;

use reader::{FrameReader, ReadError};
use turns::Turns;
pub(crate) use turns::{Order, Turn};
pub(crate) use writer::Answer;
use writer::Pending;

/// Requests of one connection that are under way at once. Kafka's own clients send 5, librdkafka without idempotence
/// as many as it likes: more only wait in the socket.
const MAX_PIPELINED: usize = 64;
/// How long a connection that is to be closed may take to finish what it has begun, so that a process drains well
/// within [`tidemark_runtime::shutdown::DRAIN_DEADLINE`].
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ended. Its text is what is logged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("closed by the client")]
    ByClient,
    #[error("closed by the client in the middle of a request: {0} bytes of it had arrived")]
    Truncated(usize),
    #[error("no request for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("nothing more of a request for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("shutting down")]
    Shutdown,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{} version {version} is not supported", .api.name())]
    UnsupportedVersion { api: ApiKey, version: i16 },
    #[error("malformed {} request, version {version}: {reason}", .api.name())]
    Malformed { api: ApiKey, version: i16, reason: String },
    /// A produce request with acks=0 failed. Closing is how its client is told, as Kafka does.
    #[error("produce with acks=0 failed: {0}")]
    UnansweredProduce(String),
    #[error("{} answer, version {version}, cannot be encoded: {reason}", .api.name())]
    Unencodable { api: ApiKey, version: i16, reason: String },
}

impl Ended {
    /// Whether someone should look at it: the client or we broke the protocol.
    fn is_fault(&self) -> bool {
        match self {
            Self::ByClient | Self::Idle(_) | Self::Shutdown | Self::Io(_) => false,
            Self::Truncated(_)
            | Self::Stalled(_)
            | Self::Frame(_)
            | Self::UnsupportedVersion { .. }
            | Self::Malformed { .. }
            | Self::UnansweredProduce(_)
            | Self::Unencodable { .. } => true,
        }
    }

    /// Whether the client is still there to read what it asked for before.
    fn leaves_answers(&self) -> bool {
        match self {
            Self::ByClient | Self::Truncated(_) | Self::Idle(_) | Self::Stalled(_) | Self::Io(_) => false,
            Self::Shutdown
            | Self::Frame(_)
            | Self::UnsupportedVersion { .. }
            | Self::Malformed { .. }
            | Self::UnansweredProduce(_)
            | Self::Unencodable { .. } => true,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::ByClient => "client",
            Self::Truncated(_) => "truncated",
            Self::Idle(_) => "idle",
            Self::Stalled(_) => "stalled",
            Self::Shutdown => "shutdown",
            Self::Io(_) => "io",
            Self::Frame(_) => "frame",
            Self::UnsupportedVersion { .. } => "unsupported-version",
            Self::Malformed { .. } => "malformed",
            Self::UnansweredProduce(_) => "unanswered-produce",
            Self::Unencodable { .. } => "unencodable",
        }
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::ByClient,
            ReadError::Truncated(bytes) => Self::Truncated(bytes),
            ReadError::Idle(limit) => Self::Idle(limit),
            ReadError::Stalled(limit) => Self::Stalled(limit),
            ReadError::Frame(error) => Self::Frame(error),
            ReadError::Io(error) => Self::Io(error),
        }
    }
}

/// Serves a connection until it ends, and logs why it did.
pub(crate) async fn serve<R, W>(
    gateway: Arc<Gateway>,
    admission: ConnectionAdmission,
    read: R,
    write: W,
    peer: SocketAddr,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    metrics::connection_opened();
    tracing::debug!(%peer, "connection opened");
    let (requests, pending) = mpsc::unbounded_channel();
    let (turns, progress) = Turns::new();
    let frames = FrameReader::new(read, admission, gateway.settings.max_request_bytes);
    let mut reading = Box::pin(read_requests(Arc::clone(&gateway), frames, turns, requests, peer));
    let mut writing = Box::pin(writer::write_answers(write, pending, progress));
    let ended = tokio::select! {
        biased;
        ended = &mut writing => ended.expect_err("the reader holds the queue"),
        ended = &mut reading => {
            // The queue ends with the reader: the writer then ends once everything is answered.
            drop(reading);
            if ended.leaves_answers() {
                match tokio::time::timeout(DRAIN_DEADLINE, writing).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%peer, "connection lost while closing: {error}"),
                    Err(_) => tracing::warn!(%peer, "requests were cut off: not finished in {DRAIN_DEADLINE:?}"),
                }
            }
            ended
        }
    };
    metrics::connection_closed(ended.word());
    if ended.is_fault() {
        tracing::warn!(%peer, "connection closed: {ended}");
    } else {
        tracing::debug!(%peer, "connection closed: {ended}");
    }
}

async fn read_requests<R>(
    gateway: Arc<Gateway>,
    mut frames: FrameReader<R>,
    mut turns: Turns,
    requests: mpsc::UnboundedSender<Pending>,
    peer: SocketAddr,
) -> Ended
where
    R: AsyncRead + Unpin,
{
    let pipeline = Arc::new(Semaphore::new(MAX_PIPELINED));
    loop {
        let mut frame = tokio::select! {
            biased;
            () = gateway.shutdown.cancelled() => return Ended::Shutdown,
            frame = frames.next() => match frame {
                Ok(frame) => frame,
                Err(error) => return error.into(),
            },
        };
        let place = tokio::select! {
            biased;
            () = gateway.shutdown.cancelled() => return Ended::Shutdown,
            place = Arc::clone(&pipeline).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let bytes = frame.bytes.len();
        let (header, body) = match RequestHeader::split(frame.bytes) {
            Ok(parts) => parts,
            Err(error) => return error.into(),
        };
        let api = gateway.metrics.api(header.api_key);
        api.started(bytes);
        let turn = turns.take(handlers::order(header.api_key, bytes));
        let answer = match handlers::dispatch(&gateway, header, body, &mut frame.grant, turn, peer) {
            Ok(answer) => answer,
            Err(ended) => return ended,
        };
        let request = Pending { answer, api: Arc::clone(api), started: Instant::now(), grant: frame.grant, place };
        if requests.send(request).is_err() {
            // The writer ended first, and its reason is the one that counts.
            return Ended::ByClient;
        }
    }
}
