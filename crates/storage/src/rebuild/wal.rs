//! Which logs are still there, without opening them.

use std::io;
use std::path::Path;

use tidemark_model::JournalId;

use crate::data_dir::identity::Identity;
use crate::error::StartError;

/// A storage node of which the data directory is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// As it joins the cluster.
    pub name: String,
    pub logs: Vec<SurvivingLog>,
}

/// A log that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurvivingLog {
    pub journal: JournalId,
    /// As the coordinator knows it.
    pub incarnation: u64,
}

/// Reads who a data directory belongs to. None when there is no such directory, or nothing in it.
pub fn surviving(dir: &Path) -> Result<Option<Survivor>, StartError> {
    let path = dir.join("node");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(StartError::Io { path, cause }),
    };
    let Identity { name, logs } = Identity::parse(&path, &bytes)?;
    let there = |incarnation: u64| dir.join("wal").join(format!("{incarnation:016x}")).is_dir();
    let logs = logs.iter().filter(|log| there(log.incarnation)).filter_map(|log| {
        // Until the coordinator has heard of a copy, it knows the log that was copied.
        Some(SurvivingLog { journal: log.journal?, incarnation: log.succeeds.unwrap_or(log.incarnation) })
    });
    Ok(Some(Survivor { name: name.to_string(), logs: logs.collect() }))
}
