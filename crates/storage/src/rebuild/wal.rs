//! Which logs are still there, and what they tell that the bucket does not, without opening them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use tidemark_model::{JournalId, TopicPartition};

use crate::data_dir::identity::Identity;
use crate::entry::Entry;
use crate::error::StartError;
use crate::wal::format::{FILE_HEADER_LEN, FileHeader, frames};

/// A storage node of which the data directory is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// As it joins the cluster.
    pub name: String,
    pub logs: Vec<SurvivingLog>,
}

/// A log that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurvivingLog {
    pub journal: JournalId,
    /// As the coordinator knows it.
    pub incarnation: u64,
    pub told: Told,
}

/// What a log tells that may be newer than every checkpoint and snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Partitions that came while it was written, and that did not go again.
    pub(super) created: BTreeMap<TopicPartition, Created>,
    /// The highest producer id that wrote anything.
    pub(super) producer_id: Option<i64>,
    /// The highest revision of the cluster state.
    pub(super) revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Created {
    /// The cluster state has it from this revision on.
    pub(super) revision: u64,
    /// Of its last batch, -1 without one.
    pub(super) leader_epoch: i32,
}

impl Told {
    /// Takes in a file of the log. What cannot be read is passed over: a start reads all of it again, and judges.
    pub(super) fn read(&mut self, file: &Bytes) {
        let Ok(header) = FileHeader::decode(file) else { return };
        for (begin, frame) in frames(file, &header) {
            if let Ok(entry) = frame.decode(&file.slice(begin as usize..)) {
                self.note(&entry);
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Batch(entry) => {
                self.revision = self.revision.max(entry.route.generation);
                let producer = Some(entry.batch.producer_id()).filter(|id| *id >= 0);
                self.producer_id = self.producer_id.max(producer);
                if let Some(created) = self.created.get_mut(&entry.partition) {
                    created.leader_epoch = created.leader_epoch.max(entry.batch.leader_epoch);
                }
            }
            Entry::PartitionCreated { partition, revision } => {
                self.revision = self.revision.max(*revision);
                self.created.insert(*partition, Created { revision: *revision, leader_epoch: -1 });
            }
            Entry::TopicDeleted { topic, revision } => {
                self.revision = self.revision.max(*revision);
                self.created.retain(|at, _| at.topic != *topic);
            }
            _ => {}
        }
    }
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
    let mut surviving = Vec::new();
    for log in &logs {
        let dir = dir.join("wal").join(format!("{:016x}", log.incarnation));
        let (Some(journal), true) = (log.journal, dir.is_dir()) else { continue };
        // Until the coordinator has heard of a copy, it knows the log that was copied.
        let incarnation = log.succeeds.unwrap_or(log.incarnation);
        surviving.push(SurvivingLog { journal, incarnation, told: told(&dir, log.incarnation)? });
    }
    Ok(Some(Survivor { name: name.to_string(), logs: surviving }))
}

/// What the files of a log tell, in their order.
fn told(dir: &Path, incarnation: u64) -> Result<Told, StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| StartError::Io { path, cause }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let mut header = vec![0; FILE_HEADER_LEN];
        let read = std::fs::File::open(&path).and_then(|mut file| io::Read::read_exact(&mut file, &mut header));
        match read {
            Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => return Err(failed(&path)(cause)),
            _ => {}
        }
        if let Some(header) = FileHeader::decode(&header).ok().filter(|header| header.wal_incarnation == incarnation) {
            files.insert(header.sequence, path);
        }
    }
    let mut told = Told::default();
    for path in files.values() {
        told.read(&std::fs::read(path).map_err(failed(path))?.into());
    }
    Ok(told)
}
