//! Admission: how many bytes of requests, and how many connections, the process holds at once.
//!
//! Bytes are counted as they arrive, not as they are announced, so that a client that announces 100 MiB and sends
//! nothing costs nothing. A connection that may not hold more is simply not read: TCP tells its client to wait.

mod answers;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use answers::{Answers, LEAST_ANSWER, Room};

/// Bytes of requests that one connection holds before it is not read: enough for a producer with five requests of 1 MiB in
/// flight. A request that is larger comes alone.
const CONNECTION_BYTES: usize = 8 << 20;

/// The bounds of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    bytes: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// The bounds of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionAdmission {
    process: Admission,
    bytes: Arc<Semaphore>,
    arrived: Grant,
    /// Held while this connection may exceed the process's bound to complete the request it is in.
    overdraft: Option<OwnedSemaphorePermit>,
    _connection: OwnedSemaphorePermit,
}

/// Bytes that are held until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    connection: Option<OwnedSemaphorePermit>,
    process: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// `max_bytes`: of requests that the process holds before it stops reading, beyond the largest request it accepts.
    pub(crate) fn new(max_connections: usize, max_bytes: usize) -> Self {
        // With fewer the bound of one connection would mean nothing.
        let max_bytes = max_bytes.clamp(CONNECTION_BYTES, Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(max_bytes)),
            overdraft: Arc::new(Semaphore::new(1)),
            connections: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// A place for one more connection, or `None` when there are too many.
    pub(crate) fn connection(&self) -> Option<ConnectionAdmission> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        Some(ConnectionAdmission {
            process: self.clone(),
            bytes: Arc::new(Semaphore::new(CONNECTION_BYTES)),
            arrived: Grant::default(),
            overdraft: None,
            _connection: connection,
        })
    }
}

impl ConnectionAdmission {
    /// Counts bytes that were read, waiting until there is room for them. Read no more before this returns. Dropping
    /// the future loses the count, so the connection has to end then.
    ///
    /// When the whole process is full of requests of which none is complete, nothing would ever be released: one
    /// connection at a time may then go beyond the bound until its request is handled.
    pub(crate) async fn arrived(&mut self, bytes: usize) {
        let count = u32::try_from(bytes).expect("one read is far smaller than 4 GiB");
        // Of a larger request no more: when it has all of them, it is the only one.
        let left = CONNECTION_BYTES - self.arrived.connection.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let own = Arc::clone(&self.bytes).acquire_many_owned(count.min(left as u32)).await;
        merge(&mut self.arrived.connection, own.expect("the semaphore is never closed"));
        if self.overdraft.is_some() {
            return;
        }
        let process = Arc::clone(&self.process.bytes).acquire_many_owned(count);
        let overdraft = Arc::clone(&self.process.overdraft).acquire_owned();
        tokio::select! {
            biased;
            permit = process => merge(&mut self.arrived.process, permit.expect("the semaphore is never closed")),
            permit = overdraft => self.overdraft = Some(permit.expect("the semaphore is never closed")),
        }
    }

    /// Hands over the grant of a complete request of `bytes`, counted before.
    pub(crate) fn take(&mut self, bytes: usize) -> Grant {
        Grant {
            connection: split(&mut self.arrived.connection, bytes),
            process: split(&mut self.arrived.process, bytes),
            overdraft: self.overdraft.take(),
        }
    }
}

impl Grant {
    /// Releases the bytes.
    pub(crate) fn release(self) {
        let Self { connection, process, overdraft } = self;
        drop((connection, process, overdraft));
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, permit: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(permit),
        None => *held = Some(permit),
    }
}

/// Takes up to `bytes`: with an overdraft, and of a large request, fewer were counted than have arrived.
fn split(held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let held = held.as_mut()?;
    held.split(bytes.min(held.num_permits()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MIB: usize = 1 << 20;
    const MAX_BYTES: usize = 128 * MIB;

    #[tokio::test]
    async fn a_connection_is_not_read_while_its_requests_hold_its_bytes() {
        let admission = Admission::new(10, MAX_BYTES);
        let mut connection = admission.connection().unwrap();
        connection.arrived(CONNECTION_BYTES - MIB).await;
        let first = connection.take(CONNECTION_BYTES - MIB);
        connection.arrived(MIB).await;
        assert!(connection.arrived(1).now_or_never().is_none(), "its bytes are all held");
        first.release();
        connection.arrived(1).await;
    }

    #[tokio::test]
    async fn a_request_of_more_bytes_than_a_connection_has_comes_alone() {
        let admission = Admission::new(10, MAX_BYTES);
        let mut connection = admission.connection().unwrap();
        connection.arrived(MIB).await;
        let small = connection.take(MIB);
        connection.arrived(CONNECTION_BYTES - MIB).await;
        assert!(connection.arrived(MIB).now_or_never().is_none(), "a request is under way");
        small.release();
        for _ in 0..20 {
            connection.arrived(MIB).await;
        }
        let large = connection.take(CONNECTION_BYTES + 20 * MIB);
        assert!(connection.arrived(1).now_or_never().is_none(), "the large one is under way");
        large.release();
        connection.arrived(CONNECTION_BYTES).await;
    }

    #[tokio::test]
    async fn a_process_full_of_half_requests_completes_them_one_by_one() {
        let admission = Admission::new(100, MAX_BYTES);
        let mut stuck = Vec::new();
        for _ in 0..MAX_BYTES / (16 * MIB) {
            let mut connection = admission.connection().unwrap();
            connection.arrived(16 * MIB).await;
            stuck.push(connection);
        }
        let mut next = stuck.pop().unwrap();
        next.arrived(MIB).await;
        assert!(stuck[0].arrived(MIB).now_or_never().is_none(), "only one goes beyond the bound");
        let request = next.take(17 * MIB);
        assert!(admission.connection().unwrap().arrived(MIB).now_or_never().is_none());
        request.release();
        stuck[1].arrived(MIB).await;
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let admission = Admission::new(1, MAX_BYTES);
        let first = admission.connection().unwrap();
        assert!(admission.connection().is_none());
        drop(first);
        assert!(admission.connection().is_some());
    }
}
