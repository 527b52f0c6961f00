//! Whether all journals of a node are well, as one condition.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tidemark_model::JournalId;
use tokio::sync::watch;

/// What the journals of a node say of themselves.
#[derive(Debug)]
pub(crate) struct Health {
    /// Why each that is not well is not.
    unwell: Mutex<BTreeMap<JournalId, String>>,
    all: watch::Sender<Result<(), String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { unwell: Mutex::default(), all: watch::channel(Ok(())).0 }
    }
}

impl Health {
    pub(crate) fn report(&self, journal: JournalId, health: Result<(), String>) {
        let mut unwell = self.unwell.lock().unwrap_or_else(PoisonError::into_inner);
        match health {
            Ok(()) => unwell.remove(&journal),
            Err(why) => unwell.insert(journal, why),
        };
        let why: Vec<String> = unwell.iter().map(|(journal, why)| format!("journal {journal}: {why}")).collect();
        let all = if why.is_empty() { Ok(()) } else { Err(why.join("; ")) };
        // Under the lock, so that what was known last is told last.
        self.all.send_if_modified(|known| {
            let changed = *known != all;
            *known = all;
            changed
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Result<(), String>> {
        self.all.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_well_when_all_of_its_journals_are() {
        let health = Health::default();
        let told = health.subscribe();
        let report = |journal, health_of: Result<(), &str>| {
            health.report(JournalId(journal), health_of.map_err(str::to_owned));
            told.borrow().clone()
        };
        assert_eq!(report(2, Err("slow")), Err("journal 2: slow".to_owned()));
        assert_eq!(report(1, Err("full")), Err("journal 1: full; journal 2: slow".to_owned()));
        assert_eq!(report(2, Ok(())), Err("journal 1: full".to_owned()));
        assert_eq!(report(1, Ok(())), Ok(()));
    }
}
