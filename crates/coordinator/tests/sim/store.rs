//! The metadata store as one coordinator sees it: late, deaf, of unknown outcome, or not at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tidemark_coordinator::store::{Changes, Commit, Entry, LeaseId, MetadataStore, Snapshot, StoreError, Txn};
use tidemark_segment::testing::sim::{Chance, Trace};
use tokio::time::sleep;

use crate::memory::Memory;
use crate::process::Process;

/// How long a request is under way, each way.
const USUAL: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(200);
/// How late a transaction may still arrive that was given up. etcd's client has long gone by then.
const LATE: Duration = Duration::from_secs(5);
/// How long a store that is away may take to say so.
const DEAF: Duration = Duration::from_secs(1);
/// In bad weather one in so many requests goes wrong.
const ODDS: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Some requests fail, and some that seem to fail are carried out, now or later.
    Flaky,
    Slow,
    /// Nobody reaches it. Leases go on: the store has not lost its clock.
    Gone,
}

/// The way to the store that a process has.
#[derive(Debug)]
pub struct Line {
    pub store: Memory,
    pub process: Arc<Process>,
    pub chance: Chance,
    pub trace: Trace,
    pub name: String,
    pub sky: Arc<Sky>,
    /// This process alone does not reach it.
    pub cut: Arc<AtomicBool>,
    /// The leases that it was granted, for itself and for the nodes that follow the cluster state by it.
    pub leases: Mutex<Vec<LeaseId>>,
}

/// The weather, which is the same for all.
#[derive(Debug)]
pub struct Sky(Mutex<Weather>);

impl Sky {
    pub fn fine() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Weather::Fine)))
    }

    pub fn set(&self, weather: Weather) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    fn get(&self) -> Weather {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Ends its leases, although it is there.
    pub async fn lose_leases(&self) {
        let leases = std::mem::take(&mut *self.leases.lock().unwrap_or_else(PoisonError::into_inner));
        for lease in leases {
            // One that is gone already is as good.
            let _ = self.store.revoke(lease).await;
        }
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    async fn under_way(&self) {
        let longest = if self.sky.get() == Weather::Slow { SLOW } else { USUAL };
        sleep(self.chance.up_to(longest)).await;
    }

    /// On the way there.
    async fn ask(&self) -> Result<(), StoreError> {
        self.process.runs().await;
        self.under_way().await;
        if self.process.is_dead() {
            std::future::pending::<()>().await;
        }
        if self.is_cut() || self.sky.get() == Weather::Gone {
            sleep(self.chance.up_to(DEAF)).await;
            self.process.runs().await;
            return Err(StoreError::Unavailable("nobody is there".into()));
        }
        Ok(())
    }

    /// On the way back.
    async fn answer<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.under_way().await;
        self.process.runs().await;
        answer
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.ask().await?;
        if self.sky.get() == Weather::Flaky && self.chance.one_in(ODDS) {
            return Err(StoreError::Unavailable("the read is lost".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl MetadataStore for Line {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read().await?;
        self.answer(self.store.get(key).await).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.read().await?;
        self.answer(self.store.range(prefix).await).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.ask().await?;
        let lost = Err(StoreError::Unavailable("the answer is lost".into()));
        if self.sky.get() == Weather::Flaky && self.chance.one_in(ODDS) {
            self.trace.count("transactions of unknown outcome");
            match self.chance.below(3) {
                0 => {}
                1 => drop(self.store.commit(txn).await),
                _ => {
                    let (store, late) = (self.store.clone(), self.chance.up_to(LATE));
                    let (trace, name) = (self.trace.clone(), self.name.clone());
                    tokio::spawn(async move {
                        sleep(late).await;
                        let outcome = store.commit(txn).await;
                        trace.note(format_args!("{name}: a late transaction arrives: {outcome:?}"));
                    });
                }
            }
            return self.answer(lost).await;
        }
        self.answer(self.store.commit(txn).await).await
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        let (process, cut, chance) = (Arc::clone(&self.process), Arc::clone(&self.cut), self.chance.clone());
        let later = move |changes| {
            let (process, cut, late) = (Arc::clone(&process), Arc::clone(&cut), chance.up_to(USUAL));
            async move {
                sleep(late).await;
                while cut.load(Ordering::Relaxed) {
                    sleep(SLOW).await;
                }
                process.runs().await;
                changes
            }
        };
        self.store.watch(prefix, after).then(later).boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.ask().await?;
        let granted = self.store.grant(ttl).await?;
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(granted);
        self.answer(Ok(granted)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask().await?;
        self.answer(self.store.keep_alive(lease).await).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask().await?;
        self.answer(self.store.revoke(lease).await).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.ask().await?;
        self.answer(self.store.compact(revision).await).await
    }
}
