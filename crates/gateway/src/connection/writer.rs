//! Answers in the order of their requests, as many in one write as are ready.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt as _};
use tidemark_wire::frame::ResponseFrame;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::Ended;
use super::turns::Done;
use crate::admission::Grant;
use crate::metrics::ApiMetrics;

/// Pieces given to one vectored write. Linux takes 1,024; with large pieces fewer fill a socket buffer.
const MAX_SLICES: usize = 128;
/// How long a client that has answers waiting may read nothing of them.
const MAX_STALL: Duration = Duration::from_secs(600);

/// What a handler gives: an answer, none (acks=0), or the end of the connection.
pub(crate) type Answer = Result<Option<ResponseFrame>, Ended>;

/// A request under way.
pub(super) struct Pending {
    pub(super) answer: BoxFuture<'static, Answer>,
    pub(super) api: Arc<ApiMetrics>,
    pub(super) started: Instant,
    pub(super) grant: Grant,
    /// Given up when the answer is written.
    pub(super) place: OwnedSemaphorePermit,
}

struct Answered {
    frame: Option<ResponseFrame>,
    _place: OwnedSemaphorePermit,
}

/// Writes answers until the requests end or one of them ends the connection.
pub(super) async fn write_answers<W>(
    mut io: W,
    mut requests: mpsc::UnboundedReceiver<Pending>,
    done: Done,
) -> Result<(), Ended>
where
    W: AsyncWrite + Unpin,
{
    let mut under_way = FuturesOrdered::new();
    let mut out: VecDeque<Answered> = VecDeque::new();
    let mut open = true;
    loop {
        // What is ready is taken before anything is written, so that it goes in one write. The requests under way are
        // polled also while the client does not read: one may hold what others wait for.
        tokio::select! {
            biased;
            Some(answered) = under_way.next(), if !under_way.is_empty() => {
                match answered {
                    Ok(answered) => out.push_back(answered),
                    Err(ended) => {
                        flush(&mut io, &mut out, &done).await?;
                        return Err(ended);
                    }
                }
                done.answered();
                // Answers that are none are written as soon as they are the first.
                written(&mut out, 0, &done);
            }
            request = requests.recv(), if open => match request {
                Some(request) => under_way.push_back(answer(request)),
                None => open = false,
            },
            result = write_some(&mut io, &out), if !out.is_empty() => written(&mut out, result?, &done),
            else => return Ok(()),
        }
    }
}

async fn answer(request: Pending) -> Result<Answered, Ended> {
    let Pending { answer, api, started, grant, place } = request;
    let frame = answer.await;
    grant.release();
    let frame = frame?;
    let bytes = frame.as_ref().map_or(0, |frame| frame.remaining());
    api.ended(bytes, started.elapsed());
    Ok(Answered { frame, _place: place })
}

/// Writes everything that was answered before the connection ends.
async fn flush<W>(io: &mut W, out: &mut VecDeque<Answered>, done: &Done) -> Result<(), Ended>
where
    W: AsyncWrite + Unpin,
{
    while !out.is_empty() {
        let bytes = write_some(io, out).await?;
        written(out, bytes, done);
    }
    Ok(())
}

/// One vectored write of as much as the socket takes. Dropping the future loses nothing.
async fn write_some<W>(io: &mut W, out: &VecDeque<Answered>) -> io::Result<usize>
where
    W: AsyncWrite + Unpin,
{
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let mut filled = 0;
    for frame in out.iter().filter_map(|answered| answered.frame.as_ref()) {
        if filled == MAX_SLICES {
            break;
        }
        filled += frame.chunks_vectored(&mut slices[filled..]);
    }
    match timeout(MAX_STALL, io.write_vectored(&slices[..filled])).await {
        Ok(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")),
    }
}

/// Takes off the queue what `bytes` have completed.
fn written(out: &mut VecDeque<Answered>, mut bytes: usize, done: &Done) {
    let mut requests = 0;
    while let Some(answered) = out.front_mut() {
        if let Some(frame) = &mut answered.frame {
            let taken = bytes.min(frame.remaining());
            frame.advance(taken);
            bytes -= taken;
            if frame.has_remaining() {
                break;
            }
        }
        out.pop_front();
        requests += 1;
    }
    if requests > 0 {
        done.written(requests);
    }
}
