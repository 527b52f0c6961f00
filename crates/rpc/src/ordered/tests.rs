use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::fence::Identity;
use super::*;
use crate::convert::Malformed;
use crate::limits::UNANSWERED;

/// Requests are sizes. They are started in order, and answered when the gate opens.
struct Sizes {
    started: Arc<Mutex<Vec<usize>>>,
    gate: watch::Receiver<bool>,
}

impl Service for Sizes {
    type Request = usize;
    type Answer = usize;
    type Requests = (u64, Vec<usize>);
    type Answers = Vec<(u64, usize)>;
    type Running = BoxFuture<'static, usize>;

    fn unpack(requests: Self::Requests) -> (u64, Vec<usize>) {
        requests
    }

    fn start(&self, size: usize) -> Result<(Self::Running, usize), Malformed> {
        if size == usize::MAX {
            return Err(Malformed::Missing("size"));
        }
        self.started.lock().unwrap().push(size);
        let mut gate = self.gate.clone();
        let running = async move {
            let _ = gate.wait_for(|open| *open).await;
            size
        };
        Ok((running.boxed(), size))
    }

    fn pack(answers: Vec<(u64, usize)>) -> Self::Answers {
        answers
    }
}

struct Setup {
    started: Arc<Mutex<Vec<usize>>>,
    gate: watch::Sender<bool>,
    shutdown: CancellationToken,
    fence: Fence,
    requests: mpsc::UnboundedSender<Result<(u64, Vec<usize>), Status>>,
    answers: stream::BoxStream<'static, Result<Vec<(u64, usize)>, Status>>,
}

fn setup(open: bool) -> Setup {
    let (gate, receiver) = watch::channel(open);
    let (requests, messages) = mpsc::unbounded_channel();
    let messages = stream::unfold(messages, |mut m| async move { m.recv().await.map(|message| (message, m)) }).boxed();
    let (started, shutdown, fence) = (Arc::default(), CancellationToken::new(), Fence::default());
    let ticket = fence.admit(Identity { client: 1, ordinal: 1 }).unwrap();
    let service = Sizes { started: Arc::clone(&started), gate: receiver };
    let answers = serve(service, messages, ticket, shutdown.clone());
    Setup { started, gate, shutdown, fence, requests, answers }
}

impl Setup {
    fn send(&self, first: u64, sizes: Vec<usize>) {
        self.requests.send(Ok((first, sizes))).unwrap();
    }

    /// Lets the server do what it can without an answer.
    fn settle(&mut self) {
        assert!(self.answers.next().now_or_never().is_none());
    }

    fn started(&self) -> usize {
        self.started.lock().unwrap().len()
    }
}

#[tokio::test]
async fn answers_that_are_ready_together_go_together() {
    let mut setup = setup(false);
    setup.send(5, vec![1, 2]);
    setup.send(7, vec![3]);
    setup.settle();
    setup.gate.send_replace(true);
    let mut answers = setup.answers.next().await.unwrap().unwrap();
    answers.sort_unstable();
    assert_eq!(answers, [(5, 1), (6, 2), (7, 3)]);
    drop(setup.requests);
    assert!(setup.answers.next().await.is_none());
}

#[tokio::test]
async fn reading_stops_while_too_much_is_unanswered() {
    let mut setup = setup(false);
    setup.send(0, vec![UNANSWERED.bytes / 2]);
    setup.send(1, vec![UNANSWERED.bytes / 2]);
    setup.send(2, vec![1]);
    setup.settle();
    assert_eq!(setup.started(), 2);
    setup.gate.send_replace(true);
    setup.answers.next().await.unwrap().unwrap();
    setup.answers.next().await.unwrap().unwrap();
    assert_eq!(setup.started(), 3);

    let mut small = self::setup(false);
    small.send(0, vec![0; UNANSWERED.requests]);
    small.send(UNANSWERED.requests as u64, vec![0]);
    small.settle();
    assert_eq!(small.started(), UNANSWERED.requests);
}

#[tokio::test]
async fn a_gap_or_nonsense_ends_the_stream_and_starts_nothing_more() {
    for (message, started) in [((3, vec![9]), 2), ((2, vec![9, usize::MAX, 9]), 3)] {
        let mut setup = setup(false);
        setup.send(0, vec![1, 2]);
        setup.settle();
        setup.requests.send(Ok(message)).unwrap();
        let status = setup.answers.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(setup.answers.next().await.is_none());
        assert_eq!(setup.started(), started);
    }
}

#[tokio::test]
async fn what_an_older_stream_still_held_is_not_started() {
    let mut setup = setup(true);
    setup.send(0, vec![1]);
    setup.answers.next().await.unwrap().unwrap();
    setup.send(1, vec![2]);
    let _newer = setup.fence.admit(Identity { client: 1, ordinal: 2 }).unwrap();
    let status = setup.answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(setup.started(), 1);
}

#[tokio::test]
async fn shutdown_answers_what_was_started_and_reads_no_more() {
    let mut setup = setup(false);
    setup.send(0, vec![1]);
    setup.settle();
    setup.shutdown.cancel();
    setup.send(1, vec![2]);
    setup.settle();
    setup.gate.send_replace(true);
    assert_eq!(setup.answers.next().await.unwrap().unwrap(), [(0, 1)]);
    assert!(setup.answers.next().await.is_none());
    assert_eq!(setup.started(), 1);
}
