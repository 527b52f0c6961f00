//! What requests that change the cluster have in common: they try again while the coordinators are away, and are
//! answered when this gateway has the change, so that the client's next request here sees it.

use std::future::Future;
use std::time::Duration;

use tidemark_model::CoordinatorError;
use tidemark_model::coordinator::Changed;
use tidemark_runtime::backoff::Backoff;
use tokio::time::Instant;

use crate::service::Gateway;

/// The first wait before an attempt that follows a failed one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between attempts.
const RETRY_LIMIT: Duration = Duration::from_secs(1);
/// The longest a change may take, whatever the client allows: Kafka's own default is 30 s.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer waits for this gateway's view of the change. The change itself stands.
const VIEW_DEADLINE: Duration = Duration::from_secs(5);
/// The time for changes whose request has no timeout of its own.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout of a request, in bounds.
pub(super) fn timeout(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(MAX_TIMEOUT)
}

/// Calls the coordinator, again while it is unavailable, until `deadline` after now.
pub(super) async fn retry<T, F, Fut>(gateway: &Gateway, deadline: Duration, mut call: F) -> Result<T, CoordinatorError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, CoordinatorError>>,
{
    let until = Instant::now() + deadline;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        let error = match tokio::time::timeout_at(until.max(Instant::now() + RETRY_FIRST), call()).await {
            Ok(Err(CoordinatorError::Unavailable(reason))) => CoordinatorError::Unavailable(reason),
            Ok(result) => return result,
            Err(_) => CoordinatorError::Unavailable("the coordinator did not answer in time".to_owned()),
        };
        let wait = backoff.next(&*gateway.entropy);
        if Instant::now() + wait >= until || gateway.shutdown.is_cancelled() {
            return Err(error);
        }
        tracing::debug!(%error, "the coordinator is unavailable, trying again");
        tokio::time::sleep(wait).await;
    }
}

/// As [`retry`], for a call with an answer for each of several: again while all of them are unavailable.
pub(super) async fn retry_each<T, F, Fut>(
    gateway: &Gateway,
    deadline: Duration,
    count: usize,
    mut call: F,
) -> Vec<Result<T, CoordinatorError>>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Vec<Result<T, CoordinatorError>>>,
{
    if count == 0 {
        return Vec::new();
    }
    let all = retry(gateway, deadline, || {
        let results = call();
        async move {
            let results = results.await;
            let unavailable =
                |result: &Result<T, CoordinatorError>| matches!(result, Err(CoordinatorError::Unavailable(_)));
            match results.first() {
                Some(Err(error)) if results.iter().all(unavailable) => Err(error.clone()),
                _ => Ok(results),
            }
        }
    });
    all.await.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
}

/// Waits until this gateway sees the newest of the changes.
pub(super) async fn seen<'a>(gateway: &Gateway, changes: impl Iterator<Item = &'a Changed>) {
    let Some(revision) = changes.map(|changed| changed.revision).max() else { return };
    if let Err(error) = gateway.cluster.wait_for_revision(revision, VIEW_DEADLINE).await {
        tracing::warn!(%error, "a change was answered before this gateway sees it");
    }
}
