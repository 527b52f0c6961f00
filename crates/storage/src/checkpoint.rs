//! A journal's state out of the bucket: what a start begins with, a rebuild brings back, and a person is shown.

use tidemark_segment::checkpoint::Damaged;
use tidemark_segment::{Bucket, Checkpoint, CheckpointName, JournalKeys, StoreError};

use crate::state::State;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The newest whole state; nothing when the journal has no checkpoint.
    pub found: Option<(CheckpointName, State)>,
    /// Newer checkpoints that cannot be used, newest first: warn the operator.
    pub damaged: Vec<Damaged>,
}

/// Loads the state of the newest checkpoint that is whole.
pub async fn newest(bucket: &Bucket, keys: &JournalKeys) -> Result<Newest, StoreError> {
    let newest = Checkpoint::newest(bucket, keys).await?;
    let found = match newest.checkpoint {
        None => None,
        Some(Checkpoint { name, state, .. }) => {
            let state = State::decode(&state)
                .map_err(|why| StoreError::Corrupt { key: keys.checkpoint(name), why: why.to_string() })?;
            Some((name, state))
        }
    };
    Ok(Newest { found, damaged: newest.damaged })
}
