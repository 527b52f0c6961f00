//! Requests that wait for other members, for minutes: what they hold meanwhile is counted apart, so that they stand in
//! nobody's way.

use std::sync::Arc;

use tidemark_model::GroupError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::Grant;
use crate::service::Gateway;

/// Bytes of requests that wait for other members, in one process: 10,000 members with 6 KiB each.
pub(crate) const MAX_WAITING_BYTES: usize = 64 << 20;

/// What a request holds when its handler begins.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) bytes: usize,
    pub(super) grant: Grant,
    /// The permit to be large.
    pub(super) alone: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    /// Gives up what others need, and takes what is kept for waiting. When there is none the client tries again later.
    pub(super) fn begin(self, gateway: &Gateway) -> Result<OwnedSemaphorePermit, GroupError> {
        let Self { bytes, grant, alone } = self;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let parked = Arc::clone(&gateway.waiting).try_acquire_many_owned(bytes);
        grant.release();
        drop(alone);
        parked.map_err(|_| GroupError::Unavailable("too many requests wait for other members".to_owned()))
    }
}

/// The bytes that may wait.
pub(crate) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_WAITING_BYTES))
}
