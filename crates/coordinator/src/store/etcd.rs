//! The metadata store in etcd. The only user of `etcd-client`.

mod maintenance;
mod watch;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KeyValue, PutOptions, TxnOp};
use futures::stream::BoxStream;

use super::{Changes, Commit, Condition, Entry, LeaseId, MetadataStore, Operation, Snapshot, StoreError, Txn, Usage};

/// How long a request may take. Longer than an election of etcd (about a second), shorter than a node's lease.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// A connection is given up after this long without a sign of life. etcd takes pings more often than every 5 s for an
/// attack.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_DEADLINE: Duration = Duration::from_secs(4);

/// Keys per page of a range. With values of at most 1.5 MiB, a page is within [`MAX_PAGE_BYTES`].
const PAGE_KEYS: i64 = 128;
const MAX_PAGE_BYTES: usize = 256 << 20;

/// How often a range begins again because its revision was compacted between two pages.
const RANGE_ATTEMPTS: usize = 5;

/// gRPC's INVALID_ARGUMENT, and NOT_FOUND and OUT_OF_RANGE, by which etcd says that a lease is gone and that a revision
/// is compacted.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const OUT_OF_RANGE: i32 = 11;

/// How to reach etcd.
#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// `host:port` of its members.
    pub endpoints: Vec<String>,
    /// Where it asks for authentication: user and password.
    pub user: Option<(String, String)>,
}

impl std::fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("EtcdOptions").field("endpoints", &self.endpoints).field("user", &user).finish_non_exhaustive()
    }
}

pub struct Etcd {
    client: Client,
    options: EtcdOptions,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.options.endpoints).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Prepares the connections. Without a user, succeeds also while etcd cannot be reached.
    pub async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let client = connect(&options.endpoints, &options).await?;
        Ok(Self { client, options })
    }

    /// One attempt at [`MetadataStore::range`]; none when its revision was compacted meanwhile.
    async fn read_pages(&self, prefix: &str) -> Result<Option<Snapshot>, StoreError> {
        let mut client = self.client.kv_client().max_decoding_message_size(MAX_PAGE_BYTES);
        let end = end_of_prefix(prefix);
        let mut from = prefix.as_bytes().to_vec();
        let mut revision = 0;
        let mut entries = Vec::new();
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(revision as i64);
            let mut page = match deadline(client.get(from, Some(options))).await {
                Err(StoreError::Compacted) => return Ok(None),
                page => page?,
            };
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision()) as u64;
            }
            let more = page.more();
            for pair in page.take_kvs() {
                entries.push(entry(&pair)?);
            }
            match entries.last() {
                Some(last) if more => from = [last.key.as_bytes(), &[0]].concat(),
                _ => return Ok(Some(Snapshot { revision, entries })),
            }
        }
    }
}

#[async_trait]
impl MetadataStore for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let response = deadline(self.client.kv_client().get(key, None)).await?;
        response.kvs().first().map(entry).transpose()
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        for _ in 0..RANGE_ATTEMPTS {
            if let Some(snapshot) = self.read_pages(prefix).await? {
                return Ok(snapshot);
            }
        }
        Err(StoreError::Unavailable("the range's revision was compacted while it was read".into()))
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        txn.check()?;
        let leases: Vec<LeaseId> = txn.operations.iter().filter_map(Operation::lease).collect();
        let conditions: Vec<Compare> = txn.conditions.into_iter().map(compare).collect();
        let operations: Vec<TxnOp> = txn.operations.into_iter().map(operation).collect();
        let request = etcd_client::Txn::new().when(conditions).and_then(operations);
        let response = match (deadline(self.client.kv_client().txn(request)).await, leases.first()) {
            (Err(StoreError::LeaseLost(_)), Some(lease)) => return Err(StoreError::LeaseLost(*lease)),
            (response, _) => response?,
        };
        if !response.succeeded() {
            return Ok(Commit::Conflict);
        }
        Ok(Commit::Done(response.header().map_or(0, |header| header.revision()) as u64))
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        watch::watch(self.client.watch_client(), prefix, after)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        // etcd counts in seconds, and raises what is shorter than its election timeout.
        let seconds = ttl.as_millis().div_ceil(1_000).max(1) as i64;
        let response = deadline(self.client.lease_client().grant(seconds, None)).await?;
        Ok(LeaseId(response.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // The client waits for the first answer. The stream that it opens for more is dropped at once.
        match deadline(self.client.lease_client().keep_alive(lease.0)).await {
            Ok(_) => Ok(()),
            Err(StoreError::LeaseLost(_)) => Err(StoreError::LeaseLost(lease)),
            Err(error) => Err(error),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match deadline(self.client.lease_client().revoke(lease.0)).await {
            Ok(_) | Err(StoreError::LeaseLost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        match deadline(self.client.kv_client().compact(revision as i64, None)).await {
            // Somebody has compacted as far or further.
            Ok(_) | Err(StoreError::Compacted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        maintenance::usage(&self.client).await
    }

    async fn defragment(&self, least: u64) -> Result<u64, StoreError> {
        Box::pin(maintenance::defragment(&self.options, least)).await
    }
}

/// A client of some of the members.
async fn connect(endpoints: &[String], options: &EtcdOptions) -> Result<Client, StoreError> {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT_DEADLINE)
        .with_keep_alive(PING_INTERVAL, PING_DEADLINE)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    if let Some((user, password)) = &options.user {
        connect = connect.with_user(user, password).with_auto_token_refresh(true);
    }
    deadline(Client::connect(endpoints, Some(connect))).await
}

impl Operation {
    fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Put { lease, .. } => *lease,
            Self::Delete { .. } => None,
        }
    }
}

fn compare(condition: Condition) -> Compare {
    match condition {
        Condition::Absent(key) => Compare::create_revision(key, CompareOp::Equal, 0),
        Condition::Unchanged(key, revision) => Compare::mod_revision(key, CompareOp::Equal, revision as i64),
    }
}

fn operation(operation: Operation) -> TxnOp {
    match operation {
        Operation::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key, value, options)
        }
        Operation::Delete { key } => TxnOp::delete(key, None),
    }
}

fn entry(pair: &KeyValue) -> Result<Entry, StoreError> {
    Ok(Entry {
        key: key(pair)?,
        value: Bytes::copy_from_slice(pair.value()),
        revision: pair.mod_revision() as u64,
        lease: (pair.lease() != 0).then_some(LeaseId(pair.lease())),
    })
}

fn key(pair: &KeyValue) -> Result<String, StoreError> {
    let key = pair.key_str().map_err(|_| StoreError::Failed(format!("key {:?} is not text", pair.key())))?;
    Ok(key.to_owned())
}

/// The first key after all that begin with `prefix`.
fn end_of_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // No byte of UTF-8 is 0xff, so the last one can always be raised.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

async fn deadline<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(result) => result.map_err(store_error),
        Err(_) => Err(StoreError::Unavailable(format!("etcd did not answer within {} s", REQUEST_DEADLINE.as_secs()))),
    }
}

/// The one table from the client's errors to ours.
fn store_error(error: Error) -> StoreError {
    match error {
        Error::GRpcStatus(status) => match status.code() as i32 {
            NOT_FOUND if status.message().contains("lease") => StoreError::LeaseLost(LeaseId(0)),
            OUT_OF_RANGE if status.message().contains("compacted") => StoreError::Compacted,
            INVALID_ARGUMENT => StoreError::Failed(status.message().to_owned()),
            _ => StoreError::Unavailable(format!("{:?}: {}", status.code(), status.message())),
        },
        // The client makes this of an answer that says the lease is gone. Its other failures are of the stream.
        Error::LeaseKeepAliveError(message) if message.contains("not found") => StoreError::LeaseLost(LeaseId(0)),
        Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) | Error::LeaseKeepAliveError(_) => {
            StoreError::Unavailable(error.to_string())
        }
        Error::InvalidArgs(_)
        | Error::InvalidUri(_)
        | Error::Utf8Error(_)
        | Error::ElectError(_)
        | Error::InvalidMetadataValue(_)
        | Error::EndpointError(_)
        | Error::EndpointsNotManaged
        | Error::Internal(_) => StoreError::Failed(error.to_string()),
    }
}
