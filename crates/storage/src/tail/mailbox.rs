//! Where commits tell a stream that there is something for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemark_model::{StorageError, TopicPartition};
use tokio::sync::Notify;

/// Where commits tell a stream that there is something for it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    news: Mutex<News>,
    pub(super) woken: Notify,
}

#[derive(Debug, Default)]
struct News {
    /// Partitions that have news, in the order of their turns.
    turns: VecDeque<TopicPartition>,
    queued: BTreeSet<TopicPartition>,
    ended: VecDeque<(TopicPartition, StorageError)>,
    /// The log start that the broker said it has seen, of each subscription.
    seen: BTreeMap<TopicPartition, i64>,
}

impl Mailbox {
    /// The partition has something new.
    pub(crate) fn mark(&self, at: TopicPartition) {
        if self.put(at) {
            self.wake();
        }
    }

    /// The partition has something new. Whether the stream has to be [woken](Self::wake), for only the first since it
    /// looked does that.
    #[must_use]
    pub(crate) fn put(&self, at: TopicPartition) -> bool {
        let mut news = self.lock();
        let is_news = news.queued.insert(at);
        if is_news {
            news.turns.push_back(at);
        }
        is_news && news.turns.len() == 1
    }

    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) fn saw(&self, at: TopicPartition, log_start: i64) {
        self.lock().seen.insert(at, log_start);
    }

    pub(super) fn has_seen(&self, at: TopicPartition, log_start: i64) -> bool {
        self.lock().seen.get(&at).is_some_and(|seen| *seen >= log_start)
    }

    pub(super) fn forget(&self, at: TopicPartition) {
        self.lock().seen.remove(&at);
    }

    /// The partition's subscription is over.
    pub(crate) fn end(&self, at: TopicPartition, reason: StorageError) {
        self.lock().ended.push_back((at, reason));
        self.wake();
    }

    pub(super) fn take_turn(&self) -> Option<TopicPartition> {
        let mut news = self.lock();
        let at = news.turns.pop_front()?;
        news.queued.remove(&at);
        Some(at)
    }

    pub(super) fn take_ended(&self) -> Option<(TopicPartition, StorageError)> {
        self.lock().ended.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
