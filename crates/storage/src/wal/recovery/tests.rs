use std::path::{Path, PathBuf};

use tidemark_model::route::Route;
use tidemark_model::{NodeId, TopicId, TopicPartition};
use tidemark_segment::testing::Seeded;
use uuid::Uuid;

use super::*;
use crate::disk::Disk as _;
use crate::disk::sim::{Fault, Operation, SimDisk};
use crate::entry::tests::sample_batch;
use crate::entry::{BatchEntry, Entry};
use crate::wal::writer::{WriteError, Writer};

const JOURNAL: JournalId = JournalId(1);
const INCARNATION: u64 = 77;
const FILE_BYTES: u64 = 16 * 1024;

/// A log on a simulated disk.
struct Log {
    disk: SimDisk,
    files: Arc<Files>,
    writer: Writer,
    next: u64,
    epoch: u32,
}

fn files(disk: &SimDisk) -> Arc<Files> {
    Arc::new(Files::new(Arc::new(disk.clone()), PathBuf::from("/wal"), FILE_BYTES))
}

fn slot(n: u32) -> PathBuf {
    Path::new("/wal").join(format!("{n:04}.wal"))
}

type Entries = Vec<(EntryId, Entry)>;

/// Recovers as `needed` demands, and gives what was read.
fn recover_from(disk: &SimDisk, needed: u64) -> Result<(Arc<Files>, Recovered, Entries), RecoveryError> {
    let files = files(disk);
    let mut entries = Vec::new();
    let expected = Expected { journal: Some(JOURNAL), wal_incarnation: INCARNATION, needed };
    let recovered = survey(&files, INCARNATION)?.recover(&files, expected, &mut |named, _| {
        entries.push((named.id, named.entry));
        Ok(())
    })?;
    Ok((files, recovered, entries))
}

fn recover(disk: &SimDisk) -> Result<Vec<u64>, RecoveryError> {
    recover_from(disk, 1).map(|(_, _, entries)| entries.iter().map(|(id, _)| id.index).collect())
}

fn entry(n: u64, size: usize) -> Entry {
    let partition = TopicPartition::new(TopicId(Uuid::from_u128(1)), 0);
    let route = Route { generation: 1, gateway: NodeId(1), broker: NodeId(1) };
    let mut batch = sample_batch((-1, -1, -1), 1, 0, &vec![n as u8; size]);
    batch.base_offset = n as i64;
    Entry::Batch(BatchEntry { partition, route, batch })
}

impl Log {
    fn new() -> Self {
        Self::on(SimDisk::default())
    }

    fn on(disk: SimDisk) -> Self {
        let (files, recovered, _) = recover_from(&disk, 1).unwrap();
        let Recovered { end, last, .. } = recovered;
        let writer = Writer::new(files.clone(), JOURNAL, INCARNATION, end);
        Self { disk, files, writer, next: last.index + 1, epoch: last.epoch + 1 }
    }

    /// Writes a group of `count` entries with records of `size` bytes.
    fn group(&mut self, count: u64, size: usize) -> Result<Vec<Location>, WriteError> {
        let group: Vec<Named> = (self.next..self.next + count)
            .map(|index| Named { id: EntryId { epoch: self.epoch, index }, entry: entry(index, size) })
            .collect();
        let needed: u64 = group.iter().map(|named| align(crate::wal::format::entry_len(&named.entry) as u64)).sum();
        let new_file = self.writer.room().0 < needed;
        let locations = self.writer.write(&group, new_file)?;
        self.next += count;
        Ok(locations)
    }
}

#[test]
fn what_was_written_is_read_over_many_files_and_written_on() {
    let mut log = Log::new();
    for _ in 0..30 {
        log.group(3, 500).unwrap();
    }
    log.group(1, 40_000).unwrap();
    log.group(2, 0).unwrap();
    assert!(log.files.count() > 4);
    let (disk, next) = (log.disk.clone(), log.next);
    drop(log);
    assert_eq!(recover(&disk).unwrap(), (1..next).collect::<Vec<_>>());
    let mut log = Log::on(disk.clone());
    log.group(1, 100).unwrap();
    assert_eq!(recover(&disk).unwrap(), (1..=next).collect::<Vec<_>>());
}

#[test]
fn entries_are_read_back_one_by_one() {
    let mut log = Log::new();
    let mut wanted = Vec::new();
    for _ in 0..20 {
        let first = log.next;
        let locations = log.group(2, 700).unwrap();
        wanted.extend(
            locations
                .iter()
                .enumerate()
                .map(|(n, location)| crate::wal::read::Wanted { index: first + n as u64, location: *location }),
        );
    }
    let batches = crate::wal::read::read_batches(&log.files, &wanted).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.base_offset).collect::<Vec<_>>(), (1..41).collect::<Vec<_>>());
    log.disk.edit(&slot(1), |bytes| bytes[wanted[0].location.position as usize + 200] ^= 1);
    assert!(matches!(
        crate::wal::read::read_batches(&log.files, &wanted[..1]),
        Err(crate::wal::read::ReadError::Corrupt { .. })
    ));
    log.files.trim(log.next);
    assert!(matches!(crate::wal::read::read_batches(&log.files, &wanted[..1]), Err(crate::wal::read::ReadError::Gone)));
}

#[test]
fn a_torn_group_at_the_end_is_cut_off_whichever_of_its_pages_are_there() {
    for seed in 0..200 {
        let mut log = Log::new();
        log.group(2, 600).unwrap();
        log.group(2, 600).unwrap();
        let durable = log.next;
        log.disk.inject(Operation::Sync, [Fault::Io]);
        // The pages are dirty no more, as on Linux, so the crash below would lose them all: write it again, unsynced.
        assert!(matches!(log.group(6, 900), Err(WriteError::NotSynced(_))));
        let disk = log.disk.clone();
        let torn = disk.bytes(&slot(1));
        let entropy = Seeded::new(seed);
        let kept = |page: usize| tidemark_model::Entropy::next_u64(&entropy).is_multiple_of(2) && page > 0;
        let pages: Vec<bool> = (0..8).map(kept).collect();
        disk.crash(&Seeded::new(seed));
        disk.edit(&slot(1), |bytes| {
            for (page, _) in pages.iter().enumerate().filter(|(_, kept)| **kept) {
                let range = page * 1024 + 3072..page * 1024 + 4096;
                bytes[range.clone()].copy_from_slice(&torn[range]);
            }
        });
        let read = recover(&disk).unwrap();
        assert!(read.len() as u64 >= durable - 1, "seed {seed}: {read:?}");
        // And what is written next is found, with nothing of the torn group behind it.
        let mut log = Log::on(disk.clone());
        log.epoch += 1;
        log.group(1, 10).unwrap();
        assert_eq!(recover(&disk).unwrap(), (1..log.next).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn damage_before_later_groups_is_refused_with_file_and_offset() {
    for (what, byte) in [("the header", 5), ("the batch's header", 100), ("a record", 300)] {
        let mut log = Log::new();
        log.group(2, 600).unwrap();
        let damaged = log.group(2, 600).unwrap()[1];
        log.group(2, 600).unwrap();
        log.disk.edit(&slot(1), |bytes| bytes[damaged.position as usize + byte] ^= 0x40);
        let error = recover(&log.disk).unwrap_err();
        let RecoveryError::Damaged { path, position, .. } = &error else { panic!("{what}: {error}") };
        assert_eq!((path.as_str(), *position), ("/wal/0001.wal", damaged.position), "{what}");
    }
}

#[test]
fn damage_in_a_file_before_the_last_is_refused() {
    let mut log = Log::new();
    while log.files.count() < 3 {
        log.group(2, 600).unwrap();
    }
    // The last entry of the first file: nothing follows in that file.
    let mut last = 0;
    let files = files(&log.disk);
    let expected = Expected { journal: None, wal_incarnation: INCARNATION, needed: 1 };
    survey(&files, INCARNATION)
        .unwrap()
        .recover(&files, expected, &mut |_, location| {
            last = if location.sequence == 1 { location.position } else { last };
            Ok(())
        })
        .unwrap();
    log.disk.edit(&slot(1), |bytes| bytes[last as usize + 50] ^= 1);
    let error = recover(&log.disk).unwrap_err();
    assert!(error.to_string().contains("/wal/0001.wal is damaged"), "{error}");
}

#[test]
fn a_damaged_header_is_refused_when_the_file_has_more_than_a_group() {
    let mut log = Log::new();
    while log.files.count() < 2 {
        log.group(2, 600).unwrap();
    }
    let before = log.next;
    log.disk.edit(&slot(2), |bytes| bytes[20] ^= 1);
    // Its only group may have been torn: it is as if it had not been written.
    assert!((recover(&log.disk).unwrap().len() as u64) < before - 1);
    log.disk.edit(&slot(2), |bytes| bytes[20] ^= 1);
    log.group(2, 600).unwrap();
    log.disk.edit(&slot(2), |bytes| bytes[20] ^= 1);
    let error = recover(&log.disk).unwrap_err();
    assert!(matches!(&error, RecoveryError::Damaged { path, position: 0, .. } if path == "/wal/0002.wal"), "{error}");
}

#[test]
fn a_missing_file_is_refused_unless_it_is_not_needed() {
    let mut log = Log::new();
    while log.files.count() < 4 {
        log.group(2, 600).unwrap();
    }
    log.disk.remove(&slot(2)).unwrap();
    let error = recover(&log.disk).unwrap_err();
    assert!(matches!(&error, RecoveryError::Damaged { why, .. } if why.contains("sequence 2")), "{error}");
    assert!(recover_from(&log.disk, log.next - 1).is_ok());
    log.disk.remove(&slot(1)).unwrap();
    assert!(matches!(recover(&log.disk), Err(RecoveryError::Missing { needed: 1, .. })));
}

#[test]
fn a_recycled_tail_is_never_taken_for_valid() {
    let mut log = Log::new();
    // All groups have the same shape, so that old entries lie exactly where new ones could.
    for round in 0..60 {
        log.group(2, 600).unwrap();
        if round % 5 == 4 {
            log.files.trim(log.next - 1);
        }
        let (_, recovered, _) = recover_from(&log.disk, log.next - 1).unwrap();
        assert_eq!((recovered.last.index, recovered.torn), (log.next - 1, None), "round {round}");
    }
    assert!(log.disk.paths().len() < 6, "files are used again");
}

#[test]
fn another_log_or_a_newer_format_is_told_apart() {
    let mut log = Log::new();
    log.group(1, 10).unwrap();
    let files = files(&log.disk);
    let survey = super::survey(&files, INCARNATION + 1).unwrap();
    assert_eq!((survey.journal(), survey.other), (None, Some((JOURNAL, INCARNATION))));
    log.disk.edit(&slot(1), |bytes| {
        bytes[9] = 9;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_be_bytes());
    });
    assert!(matches!(recover(&log.disk), Err(RecoveryError::Newer { .. })));
}

#[test]
fn a_full_disk_fails_cleanly_and_the_same_names_are_used_again() {
    let mut log = Log::new();
    log.group(2, 600).unwrap();
    log.disk.set_capacity(Some(FILE_BYTES));
    let full = loop {
        match log.group(2, 600) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, WriteError::Clean(_)), "{full}");
    log.disk.set_capacity(None);
    log.group(2, 600).unwrap();
    assert_eq!(recover(&log.disk).unwrap(), (1..log.next).collect::<Vec<_>>());
}

#[test]
fn a_failed_write_is_undone_and_the_next_epoch_takes_its_place() {
    // Short, then failing: some bytes are there. Once in the middle of a file, once at the beginning of a new one.
    for groups in [1, 9] {
        let mut log = Log::new();
        for _ in 0..groups {
            log.group(2, 700).unwrap();
        }
        log.disk.inject(Operation::Write, [Fault::Short(3_000), Fault::Io]);
        assert!(matches!(log.group(4, 700), Err(WriteError::Undone(_))), "{groups}");
        assert_eq!(recover(&log.disk).unwrap(), (1..log.next).collect::<Vec<_>>(), "{groups}");
        log.epoch += 1;
        log.group(1, 5).unwrap();
        assert_eq!(recover(&log.disk).unwrap(), (1..log.next).collect::<Vec<_>>(), "{groups}");
    }
}

#[test]
fn what_failed_and_could_not_be_undone_is_undone_before_anything_else_is_written() {
    // In the middle of a file, at its end where only a new one has room for the next group, and at the beginning of one.
    for (room, failing, next) in [(8_000, 1, 1), (3_000, 2, 5), (3_000, 5, 1), (3_000, 5, 5)] {
        let mut log = Log::new();
        log.group(1, 700).unwrap();
        while log.writer.room().0 > room {
            log.group(1, 700).unwrap();
        }
        // All of it is there, and nobody could say so.
        log.disk.inject(Operation::Write, [Fault::NoSpace { kept: usize::MAX }, Fault::Io]);
        assert!(matches!(log.group(failing, 900), Err(WriteError::Unknown(_))));
        log.disk.inject(Operation::Write, [Fault::Io]);
        assert!(matches!(log.group(1, 5), Err(WriteError::Unknown(_))));
        log.epoch += 1;
        log.group(next, 900).unwrap();
        log.group(2, 900).unwrap();
        assert_eq!(recover(&log.disk).unwrap(), (1..log.next).collect::<Vec<_>>(), "{room} {failing} {next}");
    }
}

#[test]
fn the_last_group_is_made_durable_by_recovery() {
    let mut log = Log::new();
    log.group(1, 10).unwrap();
    log.disk.inject(Operation::Sync, [Fault::Io]);
    assert!(matches!(log.group(2, 600), Err(WriteError::NotSynced(_))));
    // The process restarts, not the machine: the pages are in memory, clean, and not on the disk.
    assert_eq!(recover(&log.disk).unwrap(), [1, 2, 3]);
    log.disk.crash(&Seeded::new(1));
    assert_eq!(recover(&log.disk).unwrap(), [1, 2, 3]);
}
