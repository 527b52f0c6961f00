//! An OpenTelemetry collector, as much of one as a test needs: it takes OTLP over gRPC and keeps who called whom.
//!
//! gRPC is HTTP/2 with a five-byte head before each message, and of `ExportTraceServiceRequest` only a handful of fields
//! matter here, so both are read by hand: the tests know no code that the services are made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// The largest message that is taken.
const MAX_MESSAGE: usize = 16 << 20;

/// A span as it was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty where it is the first of its trace in the first process.
    pub parent: Vec<u8>,
}

/// A collector on a port of 127.0.0.1, until it is dropped.
#[derive(Debug)]
pub struct Collector {
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // A process that was killed in the middle of an export is none of our business.
                tokio::spawn(async move { connection(stream, &kept).await.ok() });
            }
        });
        Ok(Self { endpoint, spans, _runtime: runtime })
    }

    /// Everything exported so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The longest way down from a span of this name, as `service: name`, by the parents of what has come so far.
    pub fn longest_way(&self, from: &str) -> Vec<String> {
        let spans = self.spans();
        let mut children: BTreeMap<(&[u8], &[u8]), Vec<&Span>> = BTreeMap::new();
        for span in &spans {
            children.entry((&span.trace, &span.parent)).or_default().push(span);
        }
        fn way(span: &Span, children: &BTreeMap<(&[u8], &[u8]), Vec<&Span>>) -> Vec<String> {
            let below = children.get(&(&span.trace[..], &span.id[..]));
            let longest = below.into_iter().flatten().map(|child| way(child, children)).max_by_key(Vec::len);
            let mut all = vec![format!("{}: {}", span.service, span.name)];
            all.extend(longest.unwrap_or_default());
            all
        }
        let starts = spans.iter().filter(|span| span.name == from);
        starts.map(|span| way(span, &children)).max_by_key(Vec::len).unwrap_or_default()
    }
}

async fn connection(stream: TcpStream, spans: &Arc<Mutex<Vec<Span>>>) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let spans = Arc::clone(spans);
        tokio::spawn(async move { export(request, respond, &spans).await.ok() });
    }
    Ok(())
}

async fn export(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    spans: &Mutex<Vec<Span>>,
) -> Result<()> {
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
        anyhow::ensure!(message.len() <= MAX_MESSAGE, "an export of over {MAX_MESSAGE} bytes");
    }
    // Compressed or not, then the length. Ours are not.
    let message = message.get(5..).context("no message")?;
    let exported = decode(message).context("not an ExportTraceServiceRequest")?;
    spans.lock().unwrap_or_else(PoisonError::into_inner).extend(exported);

    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut answer = respond.send_response(head, false)?;
    answer.send_data(Bytes::from_static(&[0; 5]), false)?;
    answer.send_trailers(HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]))?;
    Ok(())
}

/// `ExportTraceServiceRequest`: resource spans (1), each a resource (1) with attributes (1), and scope spans (2), each
/// spans (2) with trace id (1), span id (2), parent's id (4) and name (5).
fn decode(request: &[u8]) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    for resource_spans in fields(request)?.filter(|(number, _)| *number == 1).map(|(_, value)| value) {
        let mut service = String::new();
        for resource in of(resource_spans, 1)? {
            for attribute in of(resource, 1)? {
                let key = of(attribute, 1)?.next();
                let text = of(attribute, 2)?.next().and_then(|value| of(value, 1)?.next());
                if let (Some(b"service.name"), Some(text)) = (key, text) {
                    service = String::from_utf8_lossy(text).into_owned();
                }
            }
        }
        for scope in of(resource_spans, 2)? {
            for span in of(scope, 2)? {
                let one = |number| Some(of(span, number)?.next().unwrap_or_default().to_vec());
                let name = String::from_utf8_lossy(&one(5)?).into_owned();
                spans.push(Span { service: service.clone(), name, trace: one(1)?, id: one(2)?, parent: one(4)? });
            }
        }
    }
    Some(spans)
}

/// The values of a field.
fn of(message: &[u8], number: u64) -> Option<impl Iterator<Item = &[u8]>> {
    Some(fields(message)?.filter(move |(found, _)| *found == number).map(|(_, value)| value))
}

/// The fields that are strings, bytes or messages. None where it is not protobuf.
fn fields(mut message: &[u8]) -> Option<impl Iterator<Item = (u64, &[u8])>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                varint(&mut message)?;
                0
            }
            1 => 8,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                found.push((tag >> 3, message.get(..length)?));
                length
            }
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(found.into_iter())
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
