//! Whether a process is ready, by named conditions that its parts set.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What a condition says before its owner has said anything.
const STARTING: &str = "starting";

/// The conditions of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// One named condition of a [`Health`], in the hands of the part that knows.
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    health: Health,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, not ready until its owner says so. Naming one again hands out the same.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let name = name.into();
        self.with(|conditions| {
            conditions.entry(name.clone()).or_insert_with(|| Some(STARTING.to_owned()));
        });
        Condition { name, health: self.clone() }
    }

    /// Nothing when all conditions are ready, else what is not, by name, with its reason.
    pub fn not_ready(&self) -> BTreeMap<String, String> {
        self.with(|conditions| {
            let unready = conditions.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?)));
            unready.collect()
        })
    }

    /// What `/readyz` answers: whether ready, and a line for each condition.
    pub fn report(&self) -> (bool, String) {
        self.with(|conditions| {
            let mut text = String::new();
            for (name, reason) in conditions.iter() {
                // Writing to a String does not fail.
                let _ = match reason {
                    None => writeln!(text, "ok       {name}"),
                    Some(reason) => writeln!(text, "NOT READY {name}: {reason}"),
                };
            }
            let ready = conditions.values().all(Option::is_none);
            text.push_str(if ready { "ready\n" } else { "not ready\n" });
            (ready, text)
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<String, Option<String>>) -> R) -> R {
        // A panic while the lock is held leaves a whole map: each change is one insert.
        f(&mut self.conditions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Condition {
    pub fn ready(&self) {
        self.set(None);
    }

    /// `reason` is for the person who asks why: what is missing, and since when or where where that helps.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Keeps it at what a part of the process says of itself, for as long as that part is there.
    pub async fn follow(self, mut says: watch::Receiver<Result<(), String>>) {
        loop {
            self.set(says.borrow_and_update().clone().err());
            if says.changed().await.is_err() {
                return;
            }
        }
    }

    fn set(&self, reason: Option<String>) {
        self.health.with(|conditions| conditions.insert(self.name.clone(), reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_is_and_else_says_which_is_not() {
        let health = Health::new();
        assert!(health.report().0, "nothing to wait for");
        let wal = health.condition("wal");
        let store = health.condition("object-store");
        wal.ready();
        assert_eq!(health.not_ready(), BTreeMap::from([("object-store".into(), STARTING.into())]));
        store.not_ready("503 SlowDown");
        let (ready, text) = health.report();
        assert!(!ready && text.contains("object-store: 503 SlowDown") && text.contains("ok       wal"), "{text}");
        store.ready();
        assert!(health.report().0);
        health.condition("wal");
        assert!(health.report().0, "naming a condition again does not reset it");
    }
}
