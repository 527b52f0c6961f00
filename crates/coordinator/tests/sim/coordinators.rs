//! Coordinators as processes: the service itself, on the [`Line`] that each has to the store, and the streams of calls from
//! the gateways to each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use tidemark_coordinator::{GroupSettings, Service, Settings};
use tidemark_model::group::{GroupAnswer, GroupCall};
use tidemark_model::{GroupCoordinator as _, GroupError};
use tidemark_segment::testing::sim::{Chance, Trace};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::gateway::GATEWAYS;
use crate::memory::Memory;
use crate::process::Process;
use crate::store::{Line, Sky};

/// How long a call, and its answer, are under way.
const NETWORK: Duration = Duration::from_millis(3);
/// etcd's shortest.
pub const LEASE: Duration = Duration::from_secs(2);

pub type Outcome = Result<GroupAnswer, GroupError>;

/// All of a run, by name.
pub struct Coordinators {
    pub store: Memory,
    pub sky: Arc<Sky>,
    pub trace: Trace,
    groups: GroupSettings,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lives: BTreeMap<String, Arc<Life>>,
    born: u64,
}

/// A process of a coordinator.
pub struct Life {
    pub name: String,
    pub service: Service,
    pub process: Arc<Process>,
    pub line: Arc<Line>,
    chance: Chance,
    shutdown: CancellationToken,
    /// One for each gateway.
    streams: Vec<Mutex<Stream>>,
}

/// The ordered stream of calls to it. A call of a stream that broke does not arrive any more.
struct Stream {
    calls: mpsc::UnboundedSender<Sent>,
    broken: CancellationToken,
    last: Instant,
}

struct Sent {
    call: GroupCall,
    arrives: Instant,
    broken: CancellationToken,
    answer: oneshot::Sender<Outcome>,
}

impl Coordinators {
    pub fn new(seed: u64, trace: &Trace, groups: GroupSettings) -> Self {
        let store = Memory::default();
        {
            let store = store.clone();
            tokio::spawn(async move { store.expire().await });
        }
        Self { store, sky: Sky::fine(), trace: trace.clone(), groups, seed, inner: Mutex::default() }
    }

    /// Starts a process of a name, unless one is running: two cannot listen at one address.
    pub fn boot(&self, name: &str) -> Arc<Life> {
        let mut inner = self.inner();
        if let Some(life) = inner.lives.get(name).filter(|life| !life.process.is_dead()) {
            return Arc::clone(life);
        }
        inner.born += 1;
        let born = inner.born;
        let (process, shutdown) = (Arc::<Process>::default(), CancellationToken::new());
        let line = Arc::new(Line {
            store: self.store.clone(),
            process: Arc::clone(&process),
            chance: Chance::of(self.seed, 1_000 + born),
            trace: self.trace.clone(),
            name: format!("{name}#{born}"),
            sky: Arc::clone(&self.sky),
            cut: Arc::default(),
            leases: Mutex::default(),
        });
        let settings = Settings {
            name: name.to_owned(),
            address: name.to_owned(),
            coordinator_lease: LEASE,
            node_lease: 2 * LEASE,
            groups: self.groups.clone(),
            ..Settings::default()
        };
        let entropy = Chance::of(self.seed, 2_000 + born).entropy();
        let (store, clock) = (Arc::clone(&line) as _, Arc::new(self.trace.clone()));
        let service = Service::start(store, None, settings, clock, entropy, shutdown.clone());
        let stream = |calls| Stream { calls, broken: CancellationToken::new(), last: Instant::now() };
        let (calls, sent): (Vec<_>, Vec<_>) = (0..GATEWAYS).map(|_| mpsc::unbounded_channel()).unzip();
        let chance = Chance::of(self.seed, 3_000 + born);
        let life = Arc::new(Life {
            name: name.to_owned(),
            service,
            process,
            line,
            chance,
            shutdown,
            streams: calls.into_iter().map(|calls| Mutex::new(stream(calls))).collect(),
        });
        for sent in sent {
            tokio::spawn(Arc::clone(&life).deliver(sent));
        }
        {
            let (life, trace) = (Arc::clone(&life), self.trace.clone());
            tokio::spawn(async move {
                let error = life.service.failed().await;
                trace.note(format_args!("{} ends: {error}", life.line.name));
                trace.count("coordinators that ended by themselves");
                life.kill();
            });
        }
        self.trace.note(format_args!("{name}#{born} starts"));
        inner.lives.insert(name.to_owned(), Arc::clone(&life));
        life
    }

    pub fn life(&self, name: &str) -> Option<Arc<Life>> {
        self.inner().lives.get(name).filter(|life| !life.process.is_dead()).cloned()
    }

    /// Those that are alive, paused ones among them.
    pub fn alive(&self) -> Vec<Arc<Life>> {
        self.inner().lives.values().filter(|life| !life.process.is_dead()).cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    /// `kill -9`: nothing that it does from now on reaches anybody.
    pub fn kill(&self) {
        self.process.kill();
        // What is left of its tasks has no more to do, and ends.
        self.shutdown.cancel();
        self.break_streams();
    }

    /// Hands over what it has, and ends.
    pub async fn shut_down(&self) {
        self.shutdown.cancel();
        tokio::select! {
            biased;
            () = self.process.dead.cancelled() => {}
            () = self.service.stopped() => {}
        }
        self.process.kill();
        self.break_streams();
    }

    /// The connections to it break, and others are made.
    pub fn break_streams(&self) {
        (0..GATEWAYS).for_each(|gateway| self.break_stream(gateway));
    }

    pub fn break_stream(&self, gateway: usize) {
        let mut stream = self.stream(gateway);
        std::mem::take(&mut stream.broken).cancel();
    }

    /// A gateway calls it. The call takes its place now.
    pub fn call(&self, gateway: usize, call: GroupCall) -> BoxFuture<'static, Outcome> {
        let (answer, answered) = oneshot::channel();
        let mut stream = self.stream(gateway);
        let broken = stream.broken.clone();
        let arrives = stream.last.max(Instant::now() + self.chance.up_to(NETWORK));
        stream.last = arrives;
        // It fails where the process has ended, and then the answer never comes.
        let _ = stream.calls.send(Sent { call, arrives, broken: broken.clone(), answer });
        let late = || Err(GroupError::TimedOut("the connection broke".to_owned()));
        async move {
            tokio::select! {
                biased;
                () = broken.cancelled() => late(),
                answer = answered => answer.unwrap_or_else(|_| late()),
            }
        }
        .boxed()
    }

    async fn deliver(self: Arc<Self>, mut sent: mpsc::UnboundedReceiver<Sent>) {
        while let Some(Sent { call, arrives, broken, answer }) = sent.recv().await {
            sleep_until(arrives).await;
            self.process.runs().await;
            if broken.is_cancelled() {
                continue;
            }
            let (life, outcome) = (Arc::clone(&self), self.service.call(call));
            tokio::spawn(async move {
                let outcome = outcome.await;
                sleep(life.chance.up_to(NETWORK)).await;
                life.process.runs().await;
                // The caller may have given up.
                let _ = answer.send(outcome);
            });
        }
    }

    fn stream(&self, gateway: usize) -> MutexGuard<'_, Stream> {
        self.streams[gateway].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
