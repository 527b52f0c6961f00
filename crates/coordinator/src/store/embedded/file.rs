//! The file: one table of entries, one of numbers, a revision for each commit.

use std::path::Path;
use std::{fs, io};

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::store::{Changes, Condition, Entry, Event, LeaseId, Operation, Snapshot, StoreError, Txn};

/// Key to the revision of its last change, its lease (0 for none) and its value.
const ENTRIES: TableDefinition<'_, &str, (u64, i64, &[u8])> = TableDefinition::new("entries");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const REVISION: &str = "revision";
const FORMAT: &str = "format";

/// The format this code writes. A file of a newer one is refused.
const THIS_FORMAT: u64 = 1;

/// The metadata of a large single node is a few megabytes. redb's own default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// Where the file is, so that it can be opened again.
pub(super) struct Source {
    name: String,
    open: Open,
}

impl Source {
    /// A file at `path`, whose directory is made where there is none.
    pub(super) fn path(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        durable(path).map_err(|error| StoreError::Failed(format!("{name}: {error}")))?;
        let path = path.to_owned();
        Ok(Self::new(name, Box::new(move || Builder::new().set_cache_size(CACHE_BYTES).create(&path))))
    }

    pub(super) fn memory() -> Self {
        let open = || Builder::new().create_with_backend(redb::backends::InMemoryBackend::new());
        Self::new("memory".into(), Box::new(open))
    }

    pub(super) fn new(name: String, open: Open) -> Self {
        Self { name, open }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Debug)]
pub(super) struct File {
    source: Source,
    /// None after an error: redb refuses everything then, until it is opened again.
    database: Option<Database>,
}

impl File {
    pub(super) fn open(source: Source) -> Result<Self, StoreError> {
        let mut file = Self { source, database: None };
        file.with(|database| {
            let txn = database.begin_write()?;
            let format = {
                txn.open_table(ENTRIES)?;
                let mut numbers = txn.open_table(NUMBERS)?;
                let format = numbers.get(FORMAT)?.map(|format| format.value());
                if format.is_none() {
                    numbers.insert(FORMAT, THIS_FORMAT)?;
                    numbers.insert(REVISION, 0)?;
                }
                format.unwrap_or(THIS_FORMAT)
            };
            if format == THIS_FORMAT {
                txn.commit()?;
            } else {
                txn.abort()?;
            }
            Ok(format)
        })
        .and_then(|format| {
            if format == THIS_FORMAT {
                return Ok(());
            }
            let name = &file.source.name;
            Err(StoreError::Failed(format!("{name} has format {format}, this version reads {THIS_FORMAT}")))
        })?;
        Ok(file)
    }

    pub(super) fn revision(&mut self) -> Result<u64, StoreError> {
        self.with(|database| {
            let numbers = database.begin_read()?.open_table(NUMBERS)?;
            Ok(numbers.get(REVISION)?.map_or(0, |revision| revision.value()))
        })
    }

    pub(super) fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.with(|database| {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            let found = entries.get(key)?;
            Ok(found.map(|stored| entry(key, stored.value())))
        })
    }

    pub(super) fn range(&mut self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.with(|database| {
            let txn = database.begin_read()?;
            let revision = txn.open_table(NUMBERS)?.get(REVISION)?.map_or(0, |revision| revision.value());
            let mut entries = Vec::new();
            for pair in txn.open_table(ENTRIES)?.range(prefix..)? {
                let (key, stored) = pair?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                entries.push(entry(key.value(), stored.value()));
            }
            Ok(Snapshot { revision, entries })
        })
    }

    /// What the transaction changed, or nothing when a condition did not hold. Durable when this returns.
    pub(super) fn commit(&mut self, txn: &Txn) -> Result<Option<Changes>, StoreError> {
        self.with(|database| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            // A start after a crash reads the allocator's state rather than the whole file. Commits here are rare.
            write.set_quick_repair(true);
            let changes = {
                let mut entries = write.open_table(ENTRIES)?;
                let mut holds = true;
                for condition in &txn.conditions {
                    holds &= match condition {
                        Condition::Absent(key) => entries.get(key.as_str())?.is_none(),
                        Condition::Unchanged(key, revision) => {
                            entries.get(key.as_str())?.is_some_and(|stored| stored.value().0 == *revision)
                        }
                    };
                }
                let mut numbers = write.open_table(NUMBERS)?;
                let revision = numbers.get(REVISION)?.map_or(0, |revision| revision.value()) + 1;
                if holds {
                    numbers.insert(REVISION, revision)?;
                    Some(apply(&mut entries, revision, &txn.operations)?)
                } else {
                    None
                }
            };
            match changes {
                Some(_) => write.commit()?,
                None => write.abort()?,
            }
            Ok(changes)
        })
    }

    /// Deletes every key that has a lease.
    pub(super) fn delete_leased(&mut self) -> Result<(), StoreError> {
        let leased: Vec<String> = self.with(|database| {
            let mut leased = Vec::new();
            for pair in database.begin_read()?.open_table(ENTRIES)?.range::<&str>(..)? {
                let (key, stored) = pair?;
                if stored.value().1 != 0 {
                    leased.push(key.value().to_owned());
                }
            }
            Ok(leased)
        })?;
        if !leased.is_empty() {
            self.commit(&leased.iter().fold(Txn::new(), |txn, key| txn.delete(key)))?;
        }
        Ok(())
    }

    fn with<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.source.open)().map_err(|error| store_error(&self.source.name, error.into()))?,
        };
        let result = work(&database);
        if result.is_ok() {
            self.database = Some(database);
        }
        result.map_err(|error| store_error(&self.source.name, error))
    }
}

/// Makes the file when there is none, so that its name in the directory outlives a loss of power too.
fn durable(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    fs::File::open(directory)?.sync_all()
}

fn apply(
    entries: &mut redb::Table<'_, &'static str, (u64, i64, &'static [u8])>,
    revision: u64,
    operations: &[Operation],
) -> Result<Changes, redb::Error> {
    let mut events = Vec::with_capacity(operations.len());
    for operation in operations {
        match operation {
            Operation::Put { key, value, lease } => {
                let stored = (revision, lease.map_or(0, |lease| lease.0), value.as_ref());
                entries.insert(key.as_str(), stored)?;
                events.push(Event::Put(entry(key, stored)));
            }
            Operation::Delete { key } => {
                if entries.remove(key.as_str())?.is_some() {
                    events.push(Event::Delete(key.clone()));
                }
            }
        }
    }
    Ok(Changes { revision, events })
}

fn entry(key: &str, (revision, lease, value): (u64, i64, &[u8])) -> Entry {
    let lease = (lease != 0).then_some(LeaseId(lease));
    Entry { key: key.to_owned(), value: Bytes::copy_from_slice(value), revision, lease }
}

fn store_error(name: &str, error: redb::Error) -> StoreError {
    match error {
        // A full disk may have room again, a failed commit may have reached the disk.
        redb::Error::Io(error) => StoreError::Unavailable(format!("{name}: {error}")),
        redb::Error::PreviousIo => StoreError::Unavailable(format!("{name}: an I/O error came before")),
        redb::Error::DatabaseAlreadyOpen => StoreError::Failed(format!("{name} is in use by another process")),
        error => StoreError::Failed(format!("{name}: {error}")),
    }
}
