//! Coordinators on other nodes, any of which will do.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::{ClusterUpdate, Coordinator, CoordinatorError, Entropy, Journal, NodeId, Registration, Role};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::convert::{all, answers, spread};
use crate::limits::{
    COORDINATOR_DEADLINE, COORDINATOR_ROUNDS, FEED_SILENCE, JOIN_SILENCE, MAX_MESSAGE, REST_FIRST, REST_LIMIT,
};
use crate::proto as wire;
use crate::proto::coordinator_client::CoordinatorClient;
use crate::status::{Failure, never_sent};
use crate::transport::{AddressError, Traced, connection, traced};

type Client = CoordinatorClient<Traced>;

/// The coordinators at a list of addresses, as one. A call goes to the one that answered last, and to the next when
/// that cannot be reached.
#[derive(Clone)]
pub struct RemoteCoordinator {
    peers: Arc<Peers>,
}

struct Peers {
    clients: Vec<(String, Client)>,
    /// The one that answered last. Counts on and on.
    current: AtomicUsize,
    entropy: Arc<dyn Entropy>,
}

/// Whether a call that may have happened may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Safe,
    /// A second creation of a topic would find that it exists.
    Unsafe,
}

impl RemoteCoordinator {
    /// `addresses` are `host:port`, at least one. Connects when there is something to ask.
    pub fn new(addresses: &[String], entropy: Arc<dyn Entropy>) -> Result<Self, AddressError> {
        let client = |address: &String| {
            let client = CoordinatorClient::new(traced(connection(address)?));
            let client = client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
            Ok((address.clone(), client))
        };
        let clients: Vec<_> = addresses.iter().map(client).collect::<Result<_, AddressError>>()?;
        if clients.is_empty() {
            return Err(AddressError::none());
        }
        // Many services that start together do not all turn to the first.
        let current = AtomicUsize::new((entropy.next_u64() % clients.len() as u64) as usize);
        Ok(Self { peers: Arc::new(Peers { clients, current, entropy }) })
    }
}

impl Peers {
    async fn call<M, A, F>(
        &self,
        repeat: Repeat,
        message: M,
        method: impl Fn(Client, Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        M: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let attempts = self.attempts(repeat, message, method);
        let deadline = COORDINATOR_DEADLINE;
        tokio::time::timeout(deadline, attempts)
            .await
            .unwrap_or_else(|_| Err(Failure::TimedOut(format!("no coordinator answered in {} s", deadline.as_secs()))))
    }

    async fn attempts<M, A, F>(
        &self,
        repeat: Repeat,
        message: M,
        method: impl Fn(Client, Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        M: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempt = 0;
        loop {
            let (turn, address, client) = self.current();
            let status = match method(client, Request::new(message.clone())).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            self.pass_on(turn);
            attempt += 1;
            let may_repeat = repeat == Repeat::Safe || never_sent(&status);
            if !may_repeat || attempt >= self.clients.len() * COORDINATOR_ROUNDS {
                return Err(match Failure::from(status) {
                    Failure::Unavailable(text) => Failure::Unavailable(format!("coordinator {address}: {text}")),
                    other => other,
                });
            }
            if attempt % self.clients.len() == 0 {
                tokio::time::sleep(self.pause(attempt / self.clients.len())).await;
            }
        }
    }

    fn current(&self) -> (usize, &str, Client) {
        let turn = self.current.load(Ordering::Relaxed);
        let (address, client) = &self.clients[turn % self.clients.len()];
        (turn, address, client.clone())
    }

    /// The next one is asked from now on, unless another call has seen to that.
    fn pass_on(&self, turn: usize) {
        let _ = self.current.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// After the first round short, then longer, less up to a half at random.
    fn pause(&self, rounds: usize) -> Duration {
        let full = REST_FIRST.saturating_mul(1 << rounds.min(16)).min(REST_LIMIT);
        let half = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX);
        full - Duration::from_micros(self.entropy.next_u64() % half.saturating_add(1))
    }

    /// A coordinator that is cut off from the metadata store says so: another may not be.
    fn heed<A>(&self, turn: usize, outcome: &Result<A, CoordinatorError>) {
        if matches!(outcome, Err(CoordinatorError::Unavailable(_))) {
            self.pass_on(turn);
        }
    }

    /// One answer.
    async fn one<M, W, A, F>(
        &self,
        repeat: Repeat,
        message: M,
        method: impl Fn(Client, Request<M>) -> F,
    ) -> Result<A, CoordinatorError>
    where
        M: Clone,
        Result<A, CoordinatorError>: TryFrom<W, Error = crate::convert::Malformed>,
        F: Future<Output = Result<Response<W>, Status>>,
    {
        let response = self.call(repeat, message, method).await?;
        let turn = self.current.load(Ordering::Relaxed);
        let outcome = Result::try_from(response).map_err(Failure::from)?;
        self.heed(turn, &outcome);
        outcome
    }
}

#[async_trait]
impl Coordinator for RemoteCoordinator {
    fn join(
        &self,
        registration: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        let request = wire::JoinRequest::from((registration, resume));
        let joining = Joining::Opening { peers: Arc::clone(&self.peers), request };
        stream::unfold(joining, |mut joining| async move {
            let update = joining.next().await?;
            if update.is_err() {
                joining = Joining::Ended;
            }
            Some((update, joining))
        })
        .boxed()
    }

    async fn leave(&self, role: Role, node: NodeId, incarnation: u64) -> Result<(), CoordinatorError> {
        let request = wire::LeaveRequest { role: wire::Role::from(role).into(), node: node.0, incarnation };
        let method = |mut client: Client, request| async move { client.leave(request).await };
        let wire::LeaveResponse { error } = self.peers.call(Repeat::Safe, request, method).await?;
        match error.map(CoordinatorError::try_from).transpose().map_err(Failure::from)? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        let OpenJournal { node, wal_incarnation, logs, succeeds } = open;
        let request = wire::OpenJournalRequest { node: node.0, wal_incarnation, logs, succeeds };
        // Opened twice it is only one epoch higher.
        let method = |mut client: Client, request| async move { client.open_journal(request).await };
        self.peers.one(Repeat::Safe, request, method).await
    }

    async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<Changed, CoordinatorError>> {
        let count = topics.len();
        let request = wire::CreateTopicsRequest { topics: all(topics), validate_only };
        let repeat = if validate_only { Repeat::Safe } else { Repeat::Unsafe };
        let method = |mut client: Client, request| async move { client.create_topics(request).await };
        let response = self.peers.call(repeat, request, method).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.topics)?)))
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        let count = topics.len();
        let request = wire::DeleteTopicsRequest { topics: all(topics) };
        let method = |mut client: Client, request| async move { client.delete_topics(request).await };
        let response = self.peers.call(Repeat::Unsafe, request, method).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.topics)?)))
    }

    async fn create_partitions(
        &self,
        topic: TopicRef,
        total: i32,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        let request = wire::CreatePartitionsRequest { topic: Some(topic.into()), total, validate_only };
        let repeat = if validate_only { Repeat::Safe } else { Repeat::Unsafe };
        let method = |mut client: Client, request| async move { client.create_partitions(request).await };
        self.peers.one(repeat, request, method).await
    }

    async fn alter_topic_configs(
        &self,
        topic: TopicRef,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        let request =
            wire::AlterTopicConfigsRequest { topic: Some(topic.into()), changes: all(changes), validate_only };
        let repeat = if validate_only { Repeat::Safe } else { Repeat::Unsafe };
        let method = |mut client: Client, request| async move { client.alter_topic_configs(request).await };
        self.peers.one(repeat, request, method).await
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, CoordinatorError> {
        let request = wire::AllocateProducerIdsRequest { count };
        // Ids that nobody hears of are lost, of which there are enough.
        let method = |mut client: Client, request| async move { client.allocate_producer_ids(request).await };
        self.peers.one(Repeat::Safe, request, method).await
    }
}

/// A join stream's life.
enum Joining {
    Opening { peers: Arc<Peers>, request: wire::JoinRequest },
    Open { peers: Arc<Peers>, turn: usize, updates: Streaming<wire::ClusterUpdate>, patience: Duration },
    Ended,
}

impl Joining {
    async fn next(&mut self) -> Option<Result<ClusterUpdate, CoordinatorError>> {
        if let Self::Opening { peers, request } = self {
            let (peers, request) = (Arc::clone(peers), request.clone());
            let method = |mut client: Client, request| async move { client.join(request).await };
            let turn = peers.current.load(Ordering::Relaxed);
            match timeout(FEED_SILENCE, peers.call(Repeat::Safe, request, method)).await {
                Ok(Ok(updates)) => {
                    let turn = peers.current.load(Ordering::Relaxed);
                    *self = Self::Open { turn, peers, updates, patience: JOIN_SILENCE };
                }
                Ok(Err(failure)) => return Some(Err(failure.into())),
                Err(_) => {
                    // Unless one attempt after another has failed.
                    peers.pass_on(turn);
                    return Some(Err(silent().into()));
                }
            }
        }
        let Self::Open { peers, turn, updates, patience } = self else { return None };
        let message = timeout(*patience, updates.message()).await;
        *patience = FEED_SILENCE;
        let failure = match message {
            Ok(Ok(Some(update))) => match Result::try_from(update) {
                Ok(update) => {
                    peers.heed(*turn, &update);
                    return Some(update);
                }
                Err(malformed) => Failure::from(malformed),
            },
            Ok(Ok(None)) => {
                peers.pass_on(*turn);
                return None;
            }
            Ok(Err(status)) => Failure::from(status),
            Err(_) => silent(),
        };
        peers.pass_on(*turn);
        Some(Err(failure.into()))
    }
}

/// It sleeps, or is cut off, or has too much to do.
fn silent() -> Failure {
    Failure::Unavailable("the coordinator has fallen silent".to_owned())
}

impl fmt::Debug for RemoteCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&str> = self.peers.clients.iter().map(|(address, _)| address.as_str()).collect();
        f.debug_struct("RemoteCoordinator").field("addresses", &addresses).finish_non_exhaustive()
    }
}
