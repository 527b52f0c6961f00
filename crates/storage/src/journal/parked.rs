//! Requests that wait before they are admitted: for a view of the cluster that has their partitions, or for room in the
//! write-ahead logs. They keep their place before later ones for the same partitions.

use std::time::Duration;

use tidemark_model::storage::{Append, AppendRequest};
use tidemark_model::{StorageError, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::VIEW_DEADLINE;
use super::admit::{WalSpace, bytes_of, results_of};
use super::core::{Answers, AppendResults, Core, Reply};

/// Requests that may wait. A topic that was just created is known here within milliseconds.
const MAX_PARKED: usize = 1024;
/// How long a request waits for room. Whoever waits for it slows down, which is the point; and he should hear that there is
/// none before he gives up by himself.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked for room while somebody waits for it: other journals make it too.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

/// A request that waits.
pub(super) struct Parked {
    request: AppendRequest,
    reply: oneshot::Sender<AppendResults>,
    until: Instant,
    for_room: bool,
}

impl Core {
    /// Admits a request or lets it wait. Whether there is now something to write.
    pub(super) fn submit(
        &mut self,
        request: AppendRequest,
        reply: oneshot::Sender<AppendResults>,
        space: WalSpace,
        now: Instant,
        answers: &mut Answers,
    ) -> bool {
        let for_room = self.must_wait_for_room(&request, space);
        if !for_room && !self.must_wait_for_view(&request) {
            return self.admit(request, reply, space, answers);
        }
        let deadline = if for_room { ROOM_DEADLINE.min(request.timeout / 2) } else { VIEW_DEADLINE };
        let bytes: u64 = self.parked.iter().map(|parked| bytes_of(&parked.request)).sum();
        if self.parked.len() < MAX_PARKED && bytes + bytes_of(&request) <= space.ahead_limit {
            self.parked.push(Parked { request, reply, until: now + deadline, for_room });
        } else {
            let error = StorageError::Full(format!("{} requests wait already", self.parked.len()));
            answers.add(Reply::Append(reply, results_of(&request)), Some(error));
        }
        false
    }

    /// Takes in what waits, in order, as far as the view, the room or the time now allows.
    pub(super) fn retry_parked(&mut self, space: WalSpace, now: Instant, answers: &mut Answers) -> bool {
        let mut admitted = false;
        for parked in std::mem::take(&mut self.parked) {
            let waits = self.must_wait_for_room(&parked.request, space) || self.must_wait_for_view(&parked.request);
            if parked.until > now && waits {
                self.parked.push(parked);
            } else if self.is_behind_another(&parked.request) {
                // Its time is up and an earlier one's is not: taken in now, it would overtake that one.
                let error = StorageError::Full("an earlier request for its partition still waits".into());
                answers.add(Reply::Append(parked.reply, results_of(&parked.request)), Some(error));
            } else {
                admitted |= self.admit(parked.request, parked.reply, space, answers);
            }
        }
        admitted
    }

    /// When it has to be looked again after those that wait: the first has waited long enough, or there may be room.
    pub(super) fn parked_until(&self, now: Instant) -> Option<Instant> {
        self.parked.iter().map(|p| if p.for_room { p.until.min(now + ROOM_INTERVAL) } else { p.until }).min()
    }

    pub(super) fn refuse_parked(&mut self, error: &StorageError, answers: &mut Answers) {
        for Parked { request, reply, .. } in self.parked.drain(..) {
            answers.add(Reply::Append(reply, results_of(&request)), Some(error.clone()));
        }
    }

    /// There is no room for it, and there may be later.
    fn must_wait_for_room(&self, request: &AppendRequest, space: WalSpace) -> bool {
        matches!(self.check_room(request, space), Err(StorageError::Full(_))) && self.serves()
    }

    /// A partition is not in the view and may be in a newer one, or an earlier request for it waits.
    fn must_wait_for_view(&self, request: &AppendRequest) -> bool {
        let behind = self.view.revision < request.route.generation;
        let unknown = |append: &Append| self.leader_epoch(append.partition).is_err();
        (behind && request.appends.iter().any(unknown)) || self.is_behind_another(request)
    }

    /// An earlier request for one of its partitions waits.
    fn is_behind_another(&self, request: &AppendRequest) -> bool {
        let waits = |at: TopicPartition| {
            self.parked.iter().any(|parked| parked.request.appends.iter().any(|append| append.partition == at))
        };
        !self.parked.is_empty() && request.appends.iter().any(|append| waits(append.partition))
    }
}
