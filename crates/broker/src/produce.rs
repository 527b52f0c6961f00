//! Produce: validates batches and sends each journal's to its leader, in the order of the calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join, join_all};
use tidemark_model::broker::ProduceRequest;
use tidemark_model::route::Route;
use tidemark_model::storage::{Append, AppendRequest, Appended};
use tidemark_model::topic_config::TimestampType;
use tidemark_model::{
    Batch, BrokerError, Clock, ClusterState, JournalId, NodeId, Storage, StorageError, TopicPartition, topic_config,
};
use tidemark_wire::batch::{BatchRules, Compression, validate};
use tokio::sync::{mpsc, oneshot};

use crate::locate::Locator;
use crate::metrics;
use crate::recompress::{self, Job, Recompress};

/// Requests that may wait for this broker's cluster state to reach the gateway's. It is behind for milliseconds after
/// a topic was created; more than this waiting means that it is cut off.
const WAITING: usize = 1_024;

type Answers = Vec<Result<Appended, BrokerError>>;

/// Forwards at once, except for requests that know more of the cluster than this broker does: they and what follows
/// them wait in line until it has caught up, so that no later call overtakes them.
pub(crate) struct Produce {
    forward: Forward,
    in_line: Arc<AtomicUsize>,
    line: mpsc::Sender<(ProduceRequest, oneshot::Sender<BoxFuture<'static, Answers>>)>,
}

#[derive(Clone)]
struct Forward {
    broker: NodeId,
    locator: Locator,
    clock: Arc<dyn Clock>,
    recompress: Recompress,
}

impl Produce {
    pub(crate) fn start(broker: NodeId, locator: Locator, clock: Arc<dyn Clock>) -> Self {
        let forward = Forward { broker, locator, clock, recompress: Recompress::new() };
        let in_line = Arc::new(AtomicUsize::new(0));
        let (line, waiting) = mpsc::channel(WAITING);
        tokio::spawn(stand_in_line(forward.clone(), in_line.clone(), waiting));
        Self { forward, in_line, line }
    }

    pub(crate) fn call(&self, request: ProduceRequest) -> BoxFuture<'static, Answers> {
        let state = self.forward.locator.state();
        if self.in_line.load(Ordering::Acquire) == 0 && state.revision >= request.revision {
            return self.forward.send(&state, request);
        }
        let partitions = request.partitions.len();
        let (reply, answer) = oneshot::channel();
        self.in_line.fetch_add(1, Ordering::AcqRel);
        if self.line.try_send((request, reply)).is_err() {
            self.in_line.fetch_sub(1, Ordering::AcqRel);
            let error = BrokerError::Unavailable("this broker's cluster state is behind and its line is full".into());
            return futures::future::ready(vec![Err(error); partitions]).boxed();
        }
        async move {
            match answer.await {
                Ok(answers) => answers.await,
                Err(_) => vec![Err(BrokerError::Unavailable("the broker is stopping".into())); partitions],
            }
        }
        .boxed()
    }
}

async fn stand_in_line(
    forward: Forward,
    in_line: Arc<AtomicUsize>,
    mut waiting: mpsc::Receiver<(ProduceRequest, oneshot::Sender<BoxFuture<'static, Answers>>)>,
) {
    while let Some((request, reply)) = waiting.recv().await {
        let state = forward.locator.caught_up(request.revision).await;
        let answers = forward.send(&state, request);
        in_line.fetch_sub(1, Ordering::AcqRel);
        // The caller may have gone; the append goes on.
        let _ = reply.send(answers);
    }
}

/// A batch that may be appended.
struct Checked {
    batch: Batch,
    /// How its topic wants it compressed, when it is not.
    compression: Option<Compression>,
    max_message_bytes: usize,
}

/// What goes to one journal, and where its answers belong.
struct Group {
    storage: Arc<dyn Storage>,
    appends: Vec<Append>,
    places: Vec<usize>,
}

impl Forward {
    /// Validates, and hands every journal's batches to its leader before it returns.
    fn send(&self, state: &ClusterState, request: ProduceRequest) -> BoxFuture<'static, Answers> {
        let span = tracing::debug_span!("broker.produce", partitions = request.partitions.len());
        let _entered = span.enter();
        let ProduceRequest { gateway, revision, acks, timeout, partitions } = request;
        let route = Route { generation: revision, gateway, broker: self.broker };
        let now_ms = self.clock.now_ms();
        let mut answers: Answers = Vec::with_capacity(partitions.len());
        let mut groups: BTreeMap<JournalId, Group> = BTreeMap::new();
        let mut later = Vec::new();
        for (place, produced) in partitions.into_iter().enumerate() {
            let located = self.locator.locate(state, produced.partition);
            let checked = located.and_then(|located| {
                let batch = self.check(state, produced.partition, produced.records, now_ms)?;
                Ok((located, batch))
            });
            match checked {
                Ok((located, checked)) => {
                    metrics::batch_accepted(checked.batch.wire_len());
                    // Stands only if the leader answers fewer appends than it was sent.
                    answers.push(Err(StorageError::Unavailable("no answer from the journal's leader".into()).into()));
                    let Checked { batch, compression, max_message_bytes } = checked;
                    let partition = produced.partition;
                    if compression.is_some() || self.recompress.is_busy(partition) {
                        let (storage, journal) = (located.storage, located.journal);
                        let request = AppendRequest { journal, route, acks, timeout, appends: Vec::new() };
                        let job = Job { storage, request, partition, batch, compression, max_message_bytes };
                        let answer = self.recompress.append(job);
                        later.push(async move { (place, answer.await) });
                        continue;
                    }
                    let group = groups.entry(located.journal).or_insert_with(|| Group {
                        storage: located.storage,
                        appends: Vec::new(),
                        places: Vec::new(),
                    });
                    group.places.push(place);
                    group.appends.push(Append { partition, batch });
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        let sent: Vec<_> = groups
            .into_iter()
            .map(|(journal, Group { storage, appends, places })| {
                let answer = storage.append(AppendRequest { journal, route, acks, timeout, appends });
                async move { (places, answer.await) }
            })
            .collect();
        let answered = async move {
            let (sent, later) = join(join_all(sent), join_all(later)).await;
            for (place, result) in later {
                answers[place] = result;
            }
            for (places, results) in sent {
                for (place, result) in places.into_iter().zip(results) {
                    answers[place] = result.map_err(Into::into);
                }
            }
            answers
        };
        drop(_entered);
        tracing::Instrument::instrument(answered, span).boxed()
    }

    fn check(
        &self,
        state: &ClusterState,
        at: TopicPartition,
        records: bytes::Bytes,
        now_ms: i64,
    ) -> Result<Checked, BrokerError> {
        let topic = state.topic(at.topic).ok_or(StorageError::UnknownPartition(at))?;
        let config = topic_config::effective(&topic.configs);
        let rules = BatchRules {
            max_message_bytes: usize::try_from(config.max_message_bytes()).unwrap_or(0),
            now_ms,
            log_append_time: config.message_timestamp_type() == TimestampType::LogAppendTime,
            timestamp_before_max_ms: config.message_timestamp_before_max_ms(),
            timestamp_after_max_ms: config.message_timestamp_after_max_ms(),
        };
        let batch = validate(records, &rules).map_err(|rejected| {
            metrics::batch_rejected();
            tracing::debug!(topic = %topic.name, partition = at.partition, %rejected, "batch refused");
            BrokerError::Rejected { fault: rejected.fault, message: rejected.message }
        })?;
        let compression = recompress::wanted(config, &batch);
        Ok(Checked { batch, compression, max_message_bytes: rules.max_message_bytes })
    }
}
