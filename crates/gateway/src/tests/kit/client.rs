//! A client that says exactly what a test wants it to say.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use tidemark_wire::api::ApiKey;
use tidemark_wire::batch::BatchBuilder;
use tidemark_wire::messages::{KafkaMessage, KafkaRequest, decode, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::{Get, Put, topic_id};

/// The first versions of Produce and Fetch that name topics by id.
const FIRST_BY_ID: i16 = 13;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    next: i32,
}

/// A partition's part of a Produce answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProduceAnswer {
    pub(crate) partition: i32,
    pub(crate) error: i16,
    pub(crate) base_offset: i64,
    pub(crate) message: Option<String>,
    /// The leader's id and epoch.
    pub(crate) leader: Option<(i32, i32)>,
}

/// What a Fetch asks for, of one topic.
#[derive(Debug, Clone)]
pub(crate) struct FetchQuery {
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) session: (i32, i32),
    pub(crate) topic: &'static str,
    /// Partition and offset.
    pub(crate) partitions: Vec<(i32, i64)>,
    pub(crate) forgotten: Vec<i32>,
}

#[derive(Debug, Clone)]
pub(crate) struct FetchAnswer {
    pub(crate) error: i16,
    pub(crate) session: i32,
    pub(crate) partitions: Vec<FetchPartitionAnswer>,
    /// Ids of the nodes whose endpoints came along.
    pub(crate) endpoints: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchPartitionAnswer {
    pub(crate) partition: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) records: Bytes,
    pub(crate) leader: Option<(i32, i32)>,
}

impl Default for FetchQuery {
    fn default() -> Self {
        Self {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session: (0, -1),
            topic: "t",
            partitions: vec![(0, 0)],
            forgotten: Vec::new(),
        }
    }
}

/// A batch of one record.
pub(crate) fn batch(value: &str) -> Bytes {
    BatchBuilder::new().record(None, Some(value.as_bytes())).wire()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), next: 100 }
    }

    /// A client whose socket takes little that it does not read.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), next: 100 }
    }

    /// Sends a request and gives its correlation id.
    pub(crate) async fn send(&mut self, api: ApiKey, version: i16, body: &[u8]) -> i32 {
        self.send_as(api.code(), version, api.is_flexible(version), body).await
    }

    pub(crate) async fn send_as(&mut self, key: i16, version: i16, flexible: bool, body: &[u8]) -> i32 {
        let (id, frame) = self.frame(key, version, flexible, body);
        self.stream.write_all(&frame).await.unwrap();
        id
    }

    /// Sends requests so that the gateway reads all of them at once.
    pub(crate) async fn send_together(&mut self, requests: &[(ApiKey, i16, Vec<u8>)]) -> Vec<i32> {
        let mut wire = Vec::new();
        let mut ids = Vec::new();
        for (api, version, body) in requests {
            let (id, frame) = self.frame(api.code(), *version, api.is_flexible(*version), body);
            wire.extend(frame);
            ids.push(id);
        }
        self.stream.write_all(&wire).await.unwrap();
        ids
    }

    fn frame(&mut self, key: i16, version: i16, flexible: bool, body: &[u8]) -> (i32, Vec<u8>) {
        self.next += 1;
        let mut header = Put::new(false);
        header.out.put_i16(key);
        header.out.put_i16(version);
        header.out.put_i32(self.next);
        header.string("test-client");
        header.flexible = flexible;
        header.tags();
        let mut frame = Vec::new();
        frame.put_i32((header.out.len() + body.len()) as i32);
        frame.extend(header.out);
        frame.extend(body);
        (self.next, frame)
    }

    /// The next answer's correlation id and what follows it, or `None` when the gateway closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<(i32, Bytes)> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        let mut frame = Bytes::from(frame);
        Some((frame.get_i32(), frame))
    }

    /// The answer to `id`, without its header.
    pub(crate) async fn answer(&mut self, id: i32, api: ApiKey, version: i16) -> Bytes {
        let (correlation_id, mut body) = self.receive().await.expect("the connection is open");
        assert_eq!(correlation_id, id, "answers come in the order of the requests");
        if api.is_flexible(version) && api != ApiKey::ApiVersions {
            assert_eq!(body.get_u8(), 0, "a response header has no tagged fields");
        }
        body
    }

    pub(crate) async fn call<Q: KafkaRequest, R: KafkaMessage>(&mut self, version: i16, request: &Q) -> R {
        let api = ApiKey::from_code(Q::API_KEY.value()).unwrap();
        let id = self.send(api, version, &encode(request, version).unwrap()).await;
        let body = self.answer(id, api, version).await;
        decode(body, version).unwrap()
    }

    pub(crate) async fn send_produce(&mut self, version: i16, acks: i16, topic: &str, all: &[(i32, Bytes)]) -> i32 {
        let body = produce(version, acks, None, topic, all);
        self.send(ApiKey::Produce, version, &body).await
    }

    pub(crate) async fn produce_answer(&mut self, id: i32, version: i16) -> Vec<ProduceAnswer> {
        let body = self.answer(id, ApiKey::Produce, version).await;
        read_produce(body, version)
    }

    pub(crate) async fn produce(&mut self, version: i16, topic: &str, all: &[(i32, Bytes)]) -> Vec<ProduceAnswer> {
        let id = self.send_produce(version, -1, topic, all).await;
        self.produce_answer(id, version).await
    }

    pub(crate) async fn send_fetch(&mut self, version: i16, query: &FetchQuery) -> i32 {
        let body = fetch(version, query);
        self.send(ApiKey::Fetch, version, &body).await
    }

    pub(crate) async fn fetch_answer(&mut self, id: i32, version: i16) -> FetchAnswer {
        let body = self.answer(id, ApiKey::Fetch, version).await;
        read_fetch(body, version)
    }

    pub(crate) async fn fetch(&mut self, version: i16, query: &FetchQuery) -> FetchAnswer {
        let id = self.send_fetch(version, query).await;
        self.fetch_answer(id, version).await
    }
}

fn put_topic(put: &mut Put, version: i16, topic: &str) {
    match version >= FIRST_BY_ID {
        true => put.out.put_slice(topic_id(topic).0.as_bytes()),
        false => put.string(topic),
    }
}

fn get_topic(get: &mut Get, version: i16) {
    match version >= FIRST_BY_ID {
        true => assert_ne!(get.uuid(), Uuid::nil()),
        false => assert!(get.string().is_some()),
    }
}

pub(crate) fn produce(
    version: i16,
    acks: i16,
    transaction: Option<&str>,
    topic: &str,
    all: &[(i32, Bytes)],
) -> Vec<u8> {
    let mut put = Put::new(version >= 9);
    match transaction {
        Some(id) => put.string(id),
        None => put.null_string(),
    }
    put.out.put_i16(acks);
    put.out.put_i32(5_000);
    put.array(1);
    put_topic(&mut put, version, topic);
    put.array(all.len());
    for (partition, records) in all {
        put.out.put_i32(*partition);
        put.bytes(records);
        put.tags();
    }
    put.tags();
    put.tags();
    put.out
}

fn read_produce(body: Bytes, version: i16) -> Vec<ProduceAnswer> {
    let mut get = Get { bytes: body, flexible: version >= 9 };
    let mut answers = Vec::new();
    for _ in 0..get.array() {
        get_topic(&mut get, version);
        for _ in 0..get.array() {
            let (partition, error) = (get.bytes.get_i32(), get.bytes.get_i16());
            let base_offset = get.bytes.get_i64();
            get.bytes.get_i64();
            get.bytes.get_i64();
            assert_eq!(get.array(), 0, "no record errors");
            let message = get.string();
            let leader = leader(get.tags(), 0);
            answers.push(ProduceAnswer { partition, error, base_offset, message, leader });
        }
        get.tags();
    }
    assert_eq!(get.bytes.get_i32(), 0, "nobody is throttled");
    get.tags();
    assert!(get.bytes.is_empty());
    answers
}

pub(crate) fn fetch(version: i16, query: &FetchQuery) -> Vec<u8> {
    let mut put = Put::new(version >= 12);
    if version <= 14 {
        put.out.put_i32(-1);
    }
    put.out.put_i32(query.max_wait_ms);
    put.out.put_i32(query.min_bytes);
    put.out.put_i32(query.max_bytes);
    put.out.put_i8(0);
    put.out.put_i32(query.session.0);
    put.out.put_i32(query.session.1);
    put.array(usize::from(!query.partitions.is_empty()));
    if !query.partitions.is_empty() {
        put_topic(&mut put, version, query.topic);
        put.array(query.partitions.len());
        for (partition, offset) in &query.partitions {
            put.out.put_i32(*partition);
            put.out.put_i32(-1);
            put.out.put_i64(*offset);
            if version >= 12 {
                put.out.put_i32(-1);
            }
            put.out.put_i64(-1);
            put.out.put_i32(1 << 20);
            put.tags();
        }
        put.tags();
    }
    put.array(usize::from(!query.forgotten.is_empty()));
    if !query.forgotten.is_empty() {
        put_topic(&mut put, version, query.topic);
        put.array(query.forgotten.len());
        for partition in &query.forgotten {
            put.out.put_i32(*partition);
        }
        put.tags();
    }
    put.string("");
    put.tags();
    put.out
}

fn read_fetch(body: Bytes, version: i16) -> FetchAnswer {
    let mut get = Get { bytes: body, flexible: version >= 12 };
    assert_eq!(get.bytes.get_i32(), 0, "nobody is throttled");
    let (error, session) = (get.bytes.get_i16(), get.bytes.get_i32());
    let mut partitions = Vec::new();
    for _ in 0..get.array() {
        get_topic(&mut get, version);
        for _ in 0..get.array() {
            let (partition, error) = (get.bytes.get_i32(), get.bytes.get_i16());
            let high_watermark = get.bytes.get_i64();
            get.bytes.get_i64();
            get.bytes.get_i64();
            assert_eq!(get.array(), 0, "no aborted transactions");
            assert_eq!(get.bytes.get_i32(), -1, "no preferred replica");
            let records = get.bytes();
            let leader = leader(get.tags(), 1);
            partitions.push(FetchPartitionAnswer { partition, error, high_watermark, records, leader });
        }
        get.tags();
    }
    let mut endpoints = Vec::new();
    for (tag, mut field) in get.tags() {
        assert_eq!(tag, 0, "node endpoints");
        for _ in 0..field.array() {
            endpoints.push(field.bytes.get_i32());
            assert!(field.string().is_some_and(|host| host.starts_with("gateway-")));
            assert_eq!(field.bytes.get_i32(), 9092);
            assert!(field.string().is_some());
            field.tags();
        }
    }
    assert!(get.bytes.is_empty());
    FetchAnswer { error, session, partitions, endpoints }
}

fn leader(tags: Vec<(u32, Get)>, leader: u32) -> Option<(i32, i32)> {
    let (_, mut field) = tags.into_iter().find(|(tag, _)| *tag == leader)?;
    Some((field.bytes.get_i32(), field.bytes.get_i32()))
}
