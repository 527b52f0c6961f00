//! An etcd watch that reconnects and resumes. The client's own ends with its connection.

use std::collections::VecDeque;
use std::time::Duration;

use etcd_client::{EventType, WatchClient, WatchOptions, WatchResponse, WatchStream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::{deadline, end_of_prefix, entry, key};
use crate::metrics;
use crate::store::{Changes, Event, StoreError};

/// How long to wait before connecting again, doubled from the least to the most.
const LEAST_BACKOFF: Duration = Duration::from_millis(100);
const MOST_BACKOFF: Duration = Duration::from_secs(2);

pub(super) fn watch(client: WatchClient, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
    let watcher = Watcher {
        client,
        prefix: prefix.to_owned(),
        after,
        stream: None,
        backoff: LEAST_BACKOFF,
        failures: 0,
        ready: VecDeque::new(),
        ended: false,
    };
    stream::unfold(watcher, |mut watcher| async {
        let next = watcher.next().await?;
        watcher.ended = next.is_err();
        Some((next, watcher))
    })
    .boxed()
}

struct Watcher {
    client: WatchClient,
    prefix: String,
    /// The last revision that was handed out: what is still to come is above it.
    after: u64,
    stream: Option<WatchStream>,
    backoff: Duration,
    failures: u32,
    ready: VecDeque<Changes>,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Changes, StoreError>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(changes) = self.ready.pop_front() {
                self.after = changes.revision;
                return Some(Ok(changes));
            }
            match self.receive().await {
                Ok(()) => {}
                Err(error @ (StoreError::Compacted | StoreError::Failed(_))) => return Some(Err(error)),
                Err(error) => {
                    self.stream = None;
                    metrics::watch_interrupted();
                    // An outage is told at its start, and then ever more rarely.
                    self.failures = self.failures.saturating_add(1);
                    if self.failures.is_power_of_two() {
                        tracing::warn!(%error, after = self.after, "watch interrupted, connecting again");
                    }
                    tokio::time::sleep(self.backoff).await;
                    self.backoff = (self.backoff * 2).min(MOST_BACKOFF);
                }
            }
        }
    }

    /// Waits for one response, on a stream that begins after what was handed out.
    async fn receive(&mut self) -> Result<(), StoreError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let options = WatchOptions::new()
                    .with_range(end_of_prefix(&self.prefix))
                    .with_start_revision(self.after as i64 + 1);
                let stream = deadline(self.client.watch(self.prefix.as_str(), Some(options))).await?;
                self.stream.insert(stream)
            }
        };
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(StoreError::Unavailable("etcd closed the watch".into())),
            Err(error) => return Err(super::store_error(error)),
        };
        if response.compact_revision() != 0 {
            return Err(StoreError::Compacted);
        }
        if response.canceled() {
            return Err(StoreError::Unavailable(format!("etcd cancelled the watch: {}", response.cancel_reason())));
        }
        (self.backoff, self.failures) = (LEAST_BACKOFF, 0);
        self.sort_in(&response)
    }

    /// A response holds whole revisions, often several, in order.
    fn sort_in(&mut self, response: &WatchResponse) -> Result<(), StoreError> {
        for event in response.events() {
            let Some(pair) = event.kv() else { continue };
            let revision = pair.mod_revision() as u64;
            let event = match event.event_type() {
                EventType::Put => Event::Put(entry(pair)?),
                EventType::Delete => Event::Delete(key(pair)?),
            };
            match self.ready.back_mut() {
                Some(changes) if changes.revision == revision => changes.events.push(event),
                _ => self.ready.push_back(Changes { revision, events: vec![event] }),
            }
        }
        Ok(())
    }
}
