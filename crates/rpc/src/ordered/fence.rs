//! The server's memory of which stream of a client is the newest.
//!
//! A client that lost its stream opens another, while the server may still hold messages of the first that it has not
//! looked at. Their requests were reported as failed; were they started after those of the new stream, they would
//! come out of order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;
use tonic::metadata::MetadataMap;

/// The client's number, another for each of its links, and which stream of that link this is.
const CLIENT: &str = "tidemark-client";
const ORDINAL: &str = "tidemark-stream";

/// Who opens a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) client: u64,
    pub(crate) ordinal: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fence {
    clients: Arc<Mutex<BTreeMap<u64, Client>>>,
}

#[derive(Debug, Default)]
struct Client {
    newest: Arc<Mutex<u64>>,
    streams: usize,
}

/// One stream's standing. The client is forgotten with its last stream.
#[derive(Debug)]
pub(crate) struct Ticket {
    fence: Fence,
    identity: Identity,
    newest: Arc<Mutex<u64>>,
}

impl Identity {
    pub(crate) fn write(self, metadata: &mut MetadataMap) {
        metadata.insert(CLIENT, self.client.into());
        metadata.insert(ORDINAL, self.ordinal.into());
    }

    pub(crate) fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        let number = |key: &'static str| {
            let value = metadata.get(key).and_then(|value| value.to_str().ok()?.parse().ok());
            value.ok_or_else(|| Status::invalid_argument(format!("header {key} is missing or no number")))
        };
        Ok(Self { client: number(CLIENT)?, ordinal: number(ORDINAL)? })
    }
}

impl Fence {
    /// Fails for a stream that a newer one has overtaken already.
    pub(crate) fn admit(&self, identity: Identity) -> Result<Ticket, Status> {
        let newest = {
            let mut clients = lock(&self.clients);
            let client = clients.entry(identity.client).or_default();
            client.streams += 1;
            Arc::clone(&client.newest)
        };
        let ticket = Ticket { fence: self.clone(), identity, newest };
        {
            let mut newest = lock(&ticket.newest);
            if *newest > identity.ordinal {
                return Err(overtaken());
            }
            *newest = identity.ordinal;
        }
        Ok(ticket)
    }
}

impl Ticket {
    /// Runs `start` unless a newer stream of the client has been admitted, and lets none in meanwhile.
    pub(crate) fn while_newest<T>(&self, start: impl FnOnce() -> T) -> Result<T, Status> {
        let newest = lock(&self.newest);
        if *newest == self.identity.ordinal { Ok(start()) } else { Err(overtaken()) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut clients = lock(&self.fence.clients);
        if let Some(client) = clients.get_mut(&self.identity.client) {
            client.streams -= 1;
            if client.streams == 0 {
                clients.remove(&self.identity.client);
            }
        }
    }
}

fn overtaken() -> Status {
    Status::aborted("the client has a newer stream")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_stream_shuts_the_older_out_and_only_of_the_same_client() {
        let fence = Fence::default();
        let first = fence.admit(Identity { client: 1, ordinal: 1 }).unwrap();
        let other = fence.admit(Identity { client: 2, ordinal: 1 }).unwrap();
        assert_eq!(first.while_newest(|| 5).unwrap(), 5);
        let second = fence.admit(Identity { client: 1, ordinal: 2 }).unwrap();
        assert!(first.while_newest(|| ()).is_err());
        assert!(fence.admit(Identity { client: 1, ordinal: 1 }).is_err());
        drop(first);
        second.while_newest(|| ()).unwrap();
        other.while_newest(|| ()).unwrap();
        drop((second, other));
        assert!(lock(&fence.clients).is_empty(), "clients without streams are forgotten");
    }

    #[test]
    fn the_identity_crosses_in_the_headers() {
        let mut metadata = MetadataMap::new();
        assert!(Identity::read(&metadata).is_err());
        let identity = Identity { client: u64::MAX, ordinal: 7 };
        identity.write(&mut metadata);
        assert_eq!(Identity::read(&metadata).unwrap(), identity);
        metadata.insert(ORDINAL, "-1".parse().unwrap());
        assert!(Identity::read(&metadata).is_err());
    }
}
