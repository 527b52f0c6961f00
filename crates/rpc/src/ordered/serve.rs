//! The server's end of an ordered stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::FutureExt as _;
use futures::stream::{self, BoxStream, FuturesUnordered, Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::fence::Ticket;
use crate::convert::Malformed;
use crate::limits::{COALESCED_BYTES, COALESCED_ITEMS, InFlight, UNANSWERED};

/// What a stream's requests call.
pub(crate) trait Service: Send + 'static {
    type Request: Send + 'static;
    type Answer: Send + 'static;
    type Requests: Send + 'static;
    type Answers: Send + 'static;
    type Running: Future<Output = Self::Answer> + Unpin + Send + 'static;

    /// While this much is unanswered nothing more is read.
    const UNANSWERED: InFlight = UNANSWERED;

    /// The sequence number of the first request, and the requests.
    fn unpack(requests: Self::Requests) -> (u64, Vec<Self::Request>);
    /// Takes the request's place in the order, and says how many bytes it is.
    fn start(&self, request: Self::Request) -> Result<(Self::Running, usize), Malformed>;
    /// The bytes of an answer, where it can be large: such answers do not all go together.
    fn size(_answer: &Self::Answer) -> usize {
        0
    }
    fn pack(answers: Vec<(u64, Self::Answer)>) -> Self::Answers;
}

/// The answers to a stream's requests. After `shutdown` nothing more is read; what was started is still answered.
pub(crate) fn serve<S, I>(
    service: S,
    requests: I,
    ticket: Ticket,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<S::Answers, Status>>
where
    S: Service,
    I: Stream<Item = Result<S::Requests, Status>> + Send + Unpin + 'static,
{
    let serving = Serving {
        service,
        requests,
        ticket,
        shutdown: Box::pin(shutdown.cancelled_owned()),
        reading: true,
        next_sequence: None,
        running: FuturesUnordered::new(),
        bytes: 0,
    };
    stream::unfold(Some(serving), |serving| async move {
        let mut serving = serving?;
        match serving.next().await {
            Ok(Some(answers)) => Some((Ok(answers), Some(serving))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
    .boxed()
}

struct Serving<S: Service, I> {
    service: S,
    requests: I,
    ticket: Ticket,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    reading: bool,
    /// Nothing before the first message.
    next_sequence: Option<u64>,
    running: FuturesUnordered<Running<S::Running>>,
    bytes: usize,
}

struct Running<F> {
    sequence: u64,
    size: usize,
    future: F,
}

impl<F: Future + Unpin> Future for Running<F> {
    type Output = (u64, usize, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = ready!(self.future.poll_unpin(cx));
        Poll::Ready((self.sequence, self.size, output))
    }
}

impl<S, I> Serving<S, I>
where
    S: Service,
    I: Stream<Item = Result<S::Requests, Status>> + Send + Unpin,
{
    /// The next message of answers; nothing when there will be none.
    async fn next(&mut self) -> Result<Option<S::Answers>, Status> {
        loop {
            if !self.reading && self.running.is_empty() {
                return Ok(None);
            }
            let full = self.bytes >= S::UNANSWERED.bytes || self.running.len() >= S::UNANSWERED.requests;
            let may_read = self.reading && !full;
            tokio::select! {
                biased;
                Some((sequence, size, answer)) = self.running.next() => {
                    return Ok(Some(self.collect(sequence, size, answer)));
                }
                () = &mut self.shutdown, if self.reading => self.reading = false,
                message = self.requests.next(), if may_read => match message {
                    Some(message) => self.start(message?)?,
                    None => self.reading = false,
                },
                else => return Ok(None),
            }
        }
    }

    fn start(&mut self, message: S::Requests) -> Result<(), Status> {
        let (first, requests) = S::unpack(message);
        let expected = self.next_sequence.unwrap_or(first);
        if first != expected {
            return Err(Malformed::Sequence { expected, got: first }.into());
        }
        self.next_sequence = Some(first.wrapping_add(requests.len() as u64));
        let (service, running, bytes) = (&self.service, &self.running, &mut self.bytes);
        self.ticket.while_newest(|| {
            for (sequence, request) in (first..).zip(requests) {
                let (future, size) = service.start(request)?;
                *bytes += size;
                running.push(Running { sequence, size, future });
            }
            Ok(())
        })?
    }

    /// One answer, and the others that are there by now, as many as go in one message.
    fn collect(&mut self, sequence: u64, size: usize, answer: S::Answer) -> S::Answers {
        self.bytes -= size;
        let mut collected = S::size(&answer);
        let mut answers = vec![(sequence, answer)];
        while answers.len() < COALESCED_ITEMS
            && collected < COALESCED_BYTES
            && let Some(Some((sequence, size, answer))) = self.running.next().now_or_never()
        {
            self.bytes -= size;
            collected += S::size(&answer);
            answers.push((sequence, answer));
        }
        S::pack(answers)
    }
}
