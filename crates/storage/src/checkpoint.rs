//! A journal's state out of the bucket: what a start begins with, a rebuild brings back, and a person is shown.

use tidemark_segment::checkpoint::{Base, Damaged, Newest as Found};
use tidemark_segment::{Bucket, Checkpoint, CheckpointName, JournalKeys, StoreError};

use crate::codec::DecodeError;
use crate::state::State;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newest {
    /// The newest whole state; nothing when the journal has no checkpoint.
    pub found: Option<(CheckpointName, State)>,
    /// The checkpoints that it was made of, oldest first.
    pub parts: Vec<Base>,
    /// Newer checkpoints that cannot be used, newest first: warn the operator.
    pub damaged: Vec<Damaged>,
}

/// Loads the state of the newest checkpoint that is whole.
pub async fn newest(bucket: &Bucket, keys: &JournalKeys) -> Result<Newest, StoreError> {
    let Found { checkpoints, damaged } = Checkpoint::newest(bucket, keys).await?;
    let Some(newest) = checkpoints.last() else { return Ok(Newest { damaged, ..Newest::default() }) };
    let corrupt = |name, why: DecodeError| StoreError::Corrupt { key: keys.checkpoint(name), why: why.to_string() };
    let mut state = State::default();
    for Checkpoint { name, state: part, .. } in &checkpoints {
        state.merge(part).map_err(|why| corrupt(*name, why))?;
    }
    state.check().map_err(|why| corrupt(newest.name, why))?;
    // What the oldest has is not said again before all is.
    state.forget_changes(checkpoints[0].name.index);
    let part = |part: &Checkpoint| Base { name: part.name, len: part.state.len() as u64 };
    Ok(Newest { parts: checkpoints.iter().map(part).collect(), found: Some((newest.name, state)), damaged })
}
