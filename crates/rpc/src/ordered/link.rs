//! The client's end of an ordered stream.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use prost::Message;
use tidemark_model::Entropy;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};
use tonic::Status;

use super::fence::Identity;
use crate::limits::{COALESCED_BYTES, COALESCED_ITEMS, IN_FLIGHT, MAX_REQUEST, PARKED, REST_FIRST, REST_LIMIT};
use crate::scatter::Incoming;
use crate::status::Failure;

/// What travels on a stream, and how it is opened.
pub(crate) trait Lane: Send + Sync + 'static {
    type Request: Send + 'static;
    type Answer: Send + 'static;
    /// A message of several requests.
    type Requests: Send + 'static;
    /// A message of several answers.
    type Answers: Message + Default + 'static;

    /// Whether the peer answers when others have come too, which may take minutes. Such requests have bounds of their
    /// own, so that what is answered at once does not wait for them.
    fn parks(_request: &Self::Request) -> bool {
        false
    }
    fn pack(first_sequence: u64, requests: Vec<Self::Request>) -> Self::Requests;
    fn unpack(answers: Self::Answers) -> impl Iterator<Item = (u64, Self::Answer)> + Send;
    fn open(
        &self,
        requests: Outgoing<Self>,
        identity: Identity,
    ) -> impl Future<Output = Result<Incoming<Self::Answers>, Status>> + Send
    where
        Self: Sized;
}

/// Where an answer will be.
pub(crate) type Answered<A> = oneshot::Receiver<Result<A, Failure>>;

/// Waits for an answer, for `deadline` at most.
pub(crate) async fn answer<A>(deadline: Duration, answered: Answered<A>) -> Result<A, Failure> {
    match tokio::time::timeout(deadline, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Failure::Unavailable("the process is stopping".to_owned())),
        Err(_) => Err(Failure::TimedOut(format!("no answer in {} ms", deadline.as_millis()))),
    }
}

/// Sends requests to one peer, over one stream at a time, which is opened when there is something to send.
#[derive(Debug)]
pub(crate) struct Link<L: Lane> {
    shared: Arc<Shared<L>>,
}

struct Shared<L: Lane> {
    lane: L,
    /// This link, to the server.
    client: u64,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State<L>>,
}

struct State<L: Lane> {
    /// Not taken by the stream yet, with their sizes: the last of `waiting`.
    queue: VecDeque<(L::Request, usize)>,
    /// Everything unanswered in the order of the sequence numbers; nothing where an answer came before an earlier one.
    waiting: VecDeque<Option<Waiting<L::Answer>>>,
    /// The sequence number of the first of `waiting`.
    first: u64,
    in_flight: Load,
    parked: Load,
    phase: Phase,
    /// The present stream, or the last.
    ordinal: u64,
    /// Streams in a row that gave no answer.
    failures: u32,
    answered_on_stream: bool,
    /// Wakes the present stream's messages.
    waker: Option<Waker>,
}

struct Waiting<A> {
    answer: oneshot::Sender<Result<A, Failure>>,
    size: usize,
    parks: bool,
}

/// What is unanswered.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum Phase {
    /// No stream: the next request opens one.
    Idle,
    /// A stream is being opened or is open.
    Open,
    /// The peer could not be reached: requests fail at once until then.
    Resting { until: Instant, why: String },
    /// The link was dropped: what it was handed is still sent.
    Closing,
}

impl<L: Lane> Link<L> {
    pub(crate) fn new(lane: L, entropy: Arc<dyn Entropy>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            first: 0,
            in_flight: Load::default(),
            parked: Load::default(),
            phase: Phase::Idle,
            ordinal: 0,
            failures: 0,
            answered_on_stream: false,
            waker: None,
        };
        let client = entropy.next_u64();
        Self { shared: Arc::new(Shared { lane, client, entropy, state: Mutex::new(state) }) }
    }

    /// Gives the request of `size` bytes its place in the order. Fails at once when nothing can be sent, or too much
    /// is unanswered.
    pub(crate) fn send(&self, request: L::Request, size: usize) -> Result<Answered<L::Answer>, Failure> {
        let (answer, answered) = oneshot::channel();
        let parks = L::parks(&request);
        let mut opened = None;
        let waker = {
            let mut state = self.shared.lock();
            state.admit(size, parks)?;
            if !matches!(state.phase, Phase::Open) {
                state.phase = Phase::Open;
                state.ordinal += 1;
                state.answered_on_stream = false;
                opened = Some(state.ordinal);
            }
            state.load(parks).add(size);
            state.queue.push_back((request, size));
            state.waiting.push_back(Some(Waiting { answer, size, parks }));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(ordinal) = opened {
            tokio::spawn(Arc::clone(&self.shared).drive(ordinal));
        }
        Ok(answered)
    }
}

impl<L: Lane> Drop for Link<L> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            state.phase = Phase::Closing;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<L: Lane> Shared<L> {
    fn lock(&self) -> MutexGuard<'_, State<L>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One stream's life.
    async fn drive(self: Arc<Self>, ordinal: u64) {
        let failure = self.stream(ordinal).await;
        self.broke(failure);
    }

    async fn stream(self: &Arc<Self>, ordinal: u64) -> Failure {
        let requests = Outgoing { shared: Arc::clone(self), ordinal };
        let identity = Identity { client: self.client, ordinal };
        let mut answers = match self.lane.open(requests, identity).await {
            Ok(answers) => answers,
            Err(status) => return status.into(),
        };
        loop {
            match answers.message().await {
                Ok(Some(message)) => {
                    if let Err(failure) = self.lock().answered(L::unpack(message)) {
                        return failure;
                    }
                }
                Ok(None) => return Failure::Unavailable("the peer ended the stream".to_owned()),
                Err(status) => return status.into(),
            }
        }
    }

    /// Fails everything that the stream owed an answer for, and everything behind it.
    fn broke(&self, failure: Failure) {
        let (queue, waiting, waker) = {
            let mut state = self.lock();
            // The stream's messages end, and with them its half of HTTP/2's.
            state.ordinal += 1;
            state.first += state.waiting.len() as u64;
            (state.in_flight, state.parked) = (Load::default(), Load::default());
            if matches!(state.phase, Phase::Open) {
                state.phase =
                    if state.answered_on_stream { Phase::Idle } else { self.rest(&mut state.failures, &failure) };
            }
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.waiting), state.waker.take())
        };
        let taken = waiting.len() - queue.len();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        // What had the bad luck to be on a stream that broke may have happened or not; "too much" would be a lie.
        let why = failure.into_text();
        for (at, waiting) in waiting.into_iter().enumerate() {
            let Some(waiting) = waiting else { continue };
            let failure = if at < taken { Failure::Unavailable(why.clone()) } else { Failure::NeverSent(why.clone()) };
            // A caller that went away does not want to know.
            let _ = waiting.answer.send(Err(failure));
        }
    }

    /// Doubles from [`REST_FIRST`] to [`REST_LIMIT`], less up to a half at random, so that the clients of a peer that
    /// comes back do not come back together.
    fn rest(&self, failures: &mut u32, failure: &Failure) -> Phase {
        let full = REST_FIRST.saturating_mul(1 << (*failures).min(16)).min(REST_LIMIT);
        *failures = failures.saturating_add(1);
        let half = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX);
        let rest = full - Duration::from_micros(self.entropy.next_u64() % half.saturating_add(1));
        Phase::Resting { until: Instant::now() + rest, why: failure.clone().into_text() }
    }
}

impl<L: Lane> State<L> {
    fn load(&mut self, parks: bool) -> &mut Load {
        if parks { &mut self.parked } else { &mut self.in_flight }
    }

    fn admit(&mut self, size: usize, parks: bool) -> Result<(), Failure> {
        if size > MAX_REQUEST {
            return Err(Failure::TooLarge(format!("a request of {size} bytes where {MAX_REQUEST} are the limit")));
        }
        let bound = if parks { PARKED } else { IN_FLIGHT };
        let load = *self.load(parks);
        // A request above the bound goes alone.
        if load.requests >= bound.requests || (load.requests > 0 && load.bytes + size > bound.bytes) {
            let Load { requests, bytes } = load;
            return Err(Failure::Full(format!("{requests} requests of {bytes} bytes are unanswered")));
        }
        match &self.phase {
            Phase::Resting { until, why } if Instant::now() < *until => Err(Failure::NeverSent(why.clone())),
            Phase::Idle | Phase::Open | Phase::Resting { .. } | Phase::Closing => Ok(()),
        }
    }

    fn answered(&mut self, answers: impl Iterator<Item = (u64, L::Answer)>) -> Result<(), Failure> {
        for (sequence, answer) in answers {
            let sent = self.waiting.len() - self.queue.len();
            let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            let index = index.filter(|index| *index < sent);
            let Some(waiting) = index.and_then(|index| self.waiting[index].take()) else {
                return Err(Failure::Unavailable(format!("the peer answered {sequence}, which is not waited for")));
            };
            self.load(waiting.parks).remove(waiting.size);
            self.answered_on_stream = true;
            self.failures = 0;
            let _ = waiting.answer.send(Ok(answer));
            while let Some(None) = self.waiting.front() {
                self.waiting.pop_front();
                self.first += 1;
            }
        }
        Ok(())
    }

    /// What goes in the next message, and the sequence number of its first request.
    fn take(&mut self) -> Option<(u64, Vec<L::Request>)> {
        if self.queue.is_empty() {
            return None;
        }
        let first = self.first + (self.waiting.len() - self.queue.len()) as u64;
        let mut requests = Vec::new();
        let mut bytes = 0;
        while let Some((_, size)) = self.queue.front() {
            let full = bytes + size > COALESCED_BYTES || requests.len() == COALESCED_ITEMS;
            if full && !requests.is_empty() {
                break;
            }
            bytes += size;
            requests.extend(self.queue.pop_front().map(|(request, _)| request));
        }
        Some((first, requests))
    }
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.requests -= 1;
        self.bytes -= bytes;
    }
}

/// The messages of one stream: whatever is queued when the connection asks for more.
pub(crate) struct Outgoing<L: Lane> {
    shared: Arc<Shared<L>>,
    ordinal: u64,
}

impl<L: Lane> Stream for Outgoing<L> {
    type Item = L::Requests;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.lock();
        if state.ordinal != self.ordinal {
            return Poll::Ready(None);
        }
        match (state.take(), &state.phase) {
            (Some((first, requests)), _) => {
                drop(state);
                Poll::Ready(Some(L::pack(first, requests)))
            }
            (None, Phase::Closing) => Poll::Ready(None),
            (None, Phase::Idle | Phase::Open | Phase::Resting { .. }) => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<L: Lane> std::fmt::Debug for Shared<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Link")
            .field("client", &self.client)
            .field("phase", &state.phase)
            .field("in_flight", &state.in_flight)
            .field("parked", &state.parked)
            .finish_non_exhaustive()
    }
}
