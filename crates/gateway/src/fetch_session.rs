//! Incremental fetch sessions (KIP-227): what a consumer fetches is remembered, so that it sends and receives only what
//! changed. The rules, the order of partitions and the eviction are those of Kafka's `FetchSession`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_model::Entropy;
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics;

/// Sessions kept at once (`max.incremental.fetch.session.cache.slots`).
pub(crate) const MAX_SESSIONS: usize = 1_000;
/// Partitions of all sessions together. Kafka bounds sessions only; a session of 100,000 partitions holds some 10 MB.
pub(crate) const MAX_SESSION_PARTITIONS: usize = 1_000_000;
/// How long a session is safe from a larger one, and after how long without use from every one
/// (`min.incremental.fetch.session.eviction.ms`).
pub(crate) const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The epoch of a request that asks for everything and a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that asks for everything and no session.
const FINAL_EPOCH: i32 = -1;
/// The id of no session.
const NO_SESSION: i32 = 0;

/// A topic as a fetch names it: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition that a client wants, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
}

/// What of a partition's answer decides whether the client needs to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) error: bool,
    pub(crate) diverging: bool,
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
    /// Bytes of records.
    pub(crate) bytes: usize,
}

/// What a request says of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Whether topics are named by id (version 13 on).
    pub(crate) by_id: bool,
}

/// Why a request does not fit its session. Each is the Kafka error of that name, for the whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND: it was evicted, or is another gateway's. The client starts anew.
    NotFound,
    /// INVALID_FETCH_SESSION_EPOCH: a request was lost or came twice. The client starts anew.
    InvalidEpoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR: the client changed between names and ids. It starts anew.
    TopicId,
}

/// A fetch that is under way.
#[derive(Debug)]
pub(crate) struct Context {
    kind: Kind,
    /// Everything to be fetched, in order.
    pub(crate) partitions: Vec<Wanted>,
}

/// How a fetch is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) session_id: i32,
    /// For each partition, whether it belongs in the response.
    pub(crate) include: Vec<bool>,
}

/// The sessions of one gateway.
#[derive(Debug)]
pub(crate) struct Sessions {
    entropy: Arc<dyn Entropy>,
    max_sessions: usize,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    New { by_id: bool },
    Incremental { id: i32, expected_epoch: i32 },
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Session>,
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    epoch: i32,
    created: Instant,
    last_used: Instant,
    /// In the order in which partitions are served: those that gave records go to the end.
    order: BTreeMap<u64, Cached>,
    places: HashMap<(TopicKey, i32), u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

impl Sessions {
    pub(crate) fn new(entropy: Arc<dyn Entropy>, max_sessions: usize) -> Self {
        Self { entropy, max_sessions, cache: Mutex::default() }
    }

    /// Opens, continues or closes a session as the request says, and tells what to fetch.
    pub(crate) fn begin(
        &self,
        request: SessionRequest,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicKey, i32)],
    ) -> Result<Context, SessionError> {
        let mut cache = self.lock();
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            if request.id != NO_SESSION {
                cache.remove(request.id);
            }
            let kind = match request.epoch {
                INITIAL_EPOCH => Kind::New { by_id: request.by_id },
                _ => Kind::Sessionless,
            };
            return Ok(Context { kind, partitions: wanted });
        }
        let session = cache.sessions.get_mut(&request.id).ok_or(SessionError::NotFound)?;
        if session.epoch != request.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_id != request.by_id {
            return Err(SessionError::TopicId);
        }
        let before = session.order.len();
        for key in forgotten {
            session.forget(key);
        }
        for partition in wanted {
            session.want(partition);
        }
        let after = session.order.len();
        session.last_used = Instant::now();
        session.epoch = next_epoch(session.epoch);
        let expected_epoch = session.epoch;
        let partitions: Vec<Wanted> = session.order.values().map(|cached| cached.wanted.clone()).collect();
        cache.partitions = cache.partitions + after - before;
        if partitions.is_empty() {
            cache.remove(request.id);
            return Ok(Context { kind: Kind::Sessionless, partitions });
        }
        Ok(Context { kind: Kind::Incremental { id: request.id, expected_epoch }, partitions })
    }

    /// Decides what of the results, one for each of the context's partitions, the client is told.
    pub(crate) fn finish(&self, context: Context, results: &[Summary]) -> Result<Finished, SessionError> {
        let Context { kind, partitions } = context;
        let everything = |session_id| Finished { session_id, include: vec![true; results.len()] };
        match kind {
            Kind::Sessionless => Ok(everything(NO_SESSION)),
            Kind::New { by_id } => Ok(everything(self.create(by_id, partitions, results))),
            Kind::Incremental { id, expected_epoch } => {
                let mut cache = self.lock();
                let session = cache.sessions.get_mut(&id).ok_or(SessionError::NotFound)?;
                if session.epoch != expected_epoch {
                    return Err(SessionError::InvalidEpoch);
                }
                session.last_used = Instant::now();
                let pairs = partitions.iter().zip(results);
                Ok(Finished {
                    session_id: id,
                    include: pairs.map(|(wanted, result)| session.tell(wanted, result)).collect(),
                })
            }
        }
    }

    /// The id of a new session, or of none when there is no room for it.
    fn create(&self, by_id: bool, partitions: Vec<Wanted>, results: &[Summary]) -> i32 {
        let now = Instant::now();
        let mut session = Session {
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            created: now,
            last_used: now,
            order: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (wanted, result) in partitions.into_iter().zip(results) {
            session.add(Cached {
                wanted,
                high_watermark: result.high_watermark,
                log_start_offset: result.log_start_offset,
            });
        }
        let mut cache = self.lock();
        let size = session.order.len();
        while cache.sessions.len() >= self.max_sessions || cache.partitions + size > MAX_SESSION_PARTITIONS {
            if !cache.evict_for(size, now) {
                return NO_SESSION;
            }
        }
        let id = loop {
            let id = (self.entropy.next_u64() >> 33) as i32;
            if id != NO_SESSION && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        cache.partitions += size;
        cache.sessions.insert(id, session);
        metrics::fetch_sessions(cache.sessions.len());
        id
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.order.len();
            metrics::fetch_sessions(self.sessions.len());
        }
    }

    /// Makes room for a session of `size` partitions: takes away the one unused for longest if it is stale, else the
    /// smallest of those that are smaller and not new.
    fn evict_for(&mut self, size: usize, now: Instant) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(id, session)| (session.last_used, **id));
        let stale = oldest.filter(|(_, session)| now - session.last_used > EVICTION_AGE).map(|(id, _)| *id);
        let victim = stale.or_else(|| {
            let old_enough = self.sessions.iter().filter(|(_, session)| now - session.created >= EVICTION_AGE);
            let smallest = old_enough.min_by_key(|(id, session)| (session.order.len(), **id));
            smallest.filter(|(_, session)| session.order.len() < size).map(|(id, _)| *id)
        });
        let Some(victim) = victim else { return false };
        self.remove(victim);
        metrics::fetch_session_evicted();
        true
    }
}

impl Session {
    fn want(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        match self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            Some(cached) => cached.wanted = wanted,
            None => self.add(Cached { wanted, high_watermark: -1, log_start_offset: -1 }),
        }
    }

    fn add(&mut self, cached: Cached) {
        let place = self.next_place;
        self.next_place += 1;
        let key = (cached.wanted.topic.clone(), cached.wanted.partition);
        // A full request may name a partition twice: the last counts.
        if let Some(before) = self.places.insert(key, place) {
            self.order.remove(&before);
        }
        self.order.insert(place, cached);
    }

    fn forget(&mut self, key: &(TopicKey, i32)) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    /// Whether the client has to be told this result. Remembers what it then knows.
    fn tell(&mut self, wanted: &Wanted, result: &Summary) -> bool {
        let key = (wanted.topic.clone(), wanted.partition);
        let Some(place) = self.places.get_mut(&key) else { return true };
        let Some(cached) = self.order.get_mut(place) else { return true };
        let moved =
            cached.high_watermark != result.high_watermark || cached.log_start_offset != result.log_start_offset;
        cached.high_watermark = result.high_watermark;
        cached.log_start_offset = result.log_start_offset;
        if result.error {
            // So that the first answer after the error is told even when nothing else changed.
            cached.high_watermark = -1;
        }
        if result.bytes > 0
            && let Some(cached) = self.order.remove(place)
        {
            *place = self.next_place;
            self.next_place += 1;
            self.order.insert(*place, cached);
        }
        moved || result.error || result.diverging || result.bytes > 0
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests;
