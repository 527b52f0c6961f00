//! One trace over a hop: what a caller's span is, the server's span belongs to.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use opentelemetry::trace::{TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tidemark_model::broker::*;
use tidemark_model::storage::{Acks, Appended, EpochEnd, FoundOffset};
use tidemark_model::{Broker, BrokerError, Dial as _, Entropy, NodeId, TopicId, TopicPartition};
use tidemark_rpc::{RemoteBrokers, serve_broker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

#[derive(Debug)]
struct Same;

impl Entropy for Same {
    fn next_u64(&self) -> u64 {
        7
    }
}

/// Writes down which trace each call is part of.
#[derive(Default)]
struct Traces(Mutex<Vec<TraceId>>);

fn current() -> TraceId {
    Span::current().context().span().span_context().trace_id()
}

#[async_trait]
impl Broker for Traces {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        self.0.lock().unwrap().push(current());
        let outcomes = request.partitions.iter().map(|_| Err(BrokerError::Unavailable(String::new()))).collect();
        async move { outcomes }.boxed()
    }

    async fn fetch(&self, _request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        vec![]
    }

    async fn list_offsets(&self, _queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        vec![]
    }

    async fn epoch_ends(&self, _queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        self.0.lock().unwrap().push(current());
        vec![]
    }

    async fn delete_records(&self, _deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        vec![]
    }
}

fn produce() -> ProduceRequest {
    let partition = TopicPartition::new(TopicId(uuid::Uuid::nil()), 0);
    ProduceRequest {
        gateway: NodeId(1),
        revision: 1,
        acks: Acks::All,
        timeout: Duration::from_secs(10),
        partitions: vec![ProducePartition { partition, records: Bytes::new() }],
    }
}

#[tokio::test]
async fn the_trace_goes_on_at_the_server_for_streams_and_for_calls() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let traces = Arc::new(Traces::default());
    tokio::spawn(serve_broker(listener, traces.clone(), CancellationToken::new()));
    let broker = RemoteBrokers::new(Arc::new(Same)).dial(NodeId(1), &address);

    let mut expected = Vec::new();
    for _ in 0..3 {
        let span = tracing::info_span!("caller");
        expected.extend([span.context().span().span_context().trace_id(); 2]);
        span.in_scope(|| broker.produce(produce())).await;
        broker.epoch_ends(vec![]).instrument(span).await;
    }
    assert!(!expected.contains(&TraceId::INVALID));
    assert_eq!(*traces.0.lock().unwrap(), expected);
}
