//! Who a node is, and which logs it has, as the file `node` says it.

use std::fmt::Write as _;
use std::path::Path;

use tidemark_model::{Entropy, JournalId};
use uuid::Uuid;

use crate::entry::EntryId;
use crate::error::StartError;

const FORMAT: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: Uuid,
    pub(crate) logs: Vec<Log>,
}

/// A write-ahead log of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) incarnation: u64,
    pub(crate) journal: Option<JournalId>,
    pub(crate) failed: Option<EntryId>,
    pub(crate) copy: Option<u64>,
    pub(crate) succeeds: Option<u64>,
}

impl Log {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, journal: None, failed: None, copy: None, succeeds: None }
    }

    fn to_text(&self) -> String {
        let Self { incarnation, journal, failed, copy, succeeds } = self;
        let mut text = format!("{incarnation:016x}");
        if let Some(journal) = journal {
            let _ = write!(text, " journal {journal}");
        }
        if let Some(EntryId { epoch, index }) = failed {
            let _ = write!(text, " failed {epoch} {index}");
        }
        if let Some(copy) = copy {
            let _ = write!(text, " copy {copy:016x}");
        }
        if let Some(succeeds) = succeeds {
            let _ = write!(text, " succeeds {succeeds:016x}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let hexadecimal = |word: &str| u64::from_str_radix(word, 16).ok();
        let mut words = text.split_whitespace();
        let mut log = Self::new(hexadecimal(words.next()?)?);
        while let Some(word) = words.next() {
            let mut number = || words.next();
            match word {
                "journal" => log.journal = Some(JournalId(number()?.parse().ok()?)),
                "failed" => {
                    log.failed = Some(EntryId { epoch: number()?.parse().ok()?, index: number()?.parse().ok()? });
                }
                "copy" => log.copy = Some(hexadecimal(number()?)?),
                "succeeds" => log.succeeds = Some(hexadecimal(number()?)?),
                _ => return None,
            }
        }
        Some(log)
    }
}

impl Identity {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let (high, low) = (entropy.next_u64(), entropy.next_u64());
        let name = uuid::Builder::from_random_bytes(Uuid::from_u64_pair(high, low).into_bytes()).into_uuid();
        Self { name, logs: Vec::new() }
    }

    pub(super) fn change(&mut self, incarnation: u64, change: impl FnOnce(&mut Log)) {
        if let Some(log) = self.logs.iter_mut().find(|log| log.incarnation == incarnation) {
            change(log);
        }
    }

    pub(super) fn to_text(&self) -> String {
        let Self { name, logs } = self;
        let mut text = format!("format = {FORMAT}\nname = {name}\n");
        for log in logs {
            let _ = writeln!(text, "log = {}", log.to_text());
        }
        text
    }

    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StartError> {
        let bad = |why: &str| StartError::BadIdentity { path: path.to_owned(), why: why.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text"))?;
        let lines = || text.lines().filter_map(|line| line.split_once(" = "));
        let value = |key: &str| lines().find(|(name, _)| *name == key).map(|(_, value)| value);
        let format: u32 = value("format").and_then(|value| value.parse().ok()).ok_or_else(|| bad("no format"))?;
        if format > FORMAT {
            return Err(StartError::NewerFormat { path: path.to_owned(), found: format, known: FORMAT });
        }
        if format < FORMAT {
            return Err(StartError::OlderFormat { path: path.to_owned(), found: format, known: FORMAT });
        }
        let name = value("name").and_then(|value| value.parse().ok()).ok_or_else(|| bad("no name"))?;
        let logs = lines()
            .filter(|(name, _)| *name == "log")
            .map(|(_, value)| Log::parse(value).ok_or_else(|| bad(&format!("not a log: {value}"))));
        Ok(Self { name, logs: logs.collect::<Result<_, _>>()? })
    }
}
