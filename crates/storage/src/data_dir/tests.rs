use tidemark_segment::testing::Seeded;

use super::*;
use crate::disk::RealDisk;
use crate::disk::sim::SimDisk;

fn open(disk: &SimDisk) -> Result<DataDir, StartError> {
    DataDir::open(Arc::new(disk.clone()), Path::new("/data"), &Seeded::new(1))
}

#[test]
fn the_name_and_the_logs_stay_and_the_lock_is_held() {
    let disk = SimDisk::default();
    let first = open(&disk).unwrap();
    first.add_logs(2, &Seeded::new(3)).unwrap();
    let (name, logs) = (first.name(), first.logs());
    assert_eq!(logs.len(), 2);
    let error = open(&disk).unwrap_err();
    assert!(error.to_string().contains("/data/lock") && matches!(error, StartError::InUse { .. }), "{error}");
    drop(first);
    let again = open(&disk).unwrap();
    again.add_logs(1, &Seeded::new(4)).unwrap();
    assert_eq!((again.name(), again.logs()), (name.clone(), logs.clone()));
    again.logs_opened(&[(logs[1].incarnation, JournalId(4))]).unwrap();
    drop(again);
    let again = open(&disk).unwrap();
    assert_eq!(again.logs(), [logs[0].clone(), Log { journal: Some(JournalId(4)), ..logs[1].clone() }]);
    let next = again.log_lost(logs[1].incarnation, &Seeded::new(2)).unwrap();
    assert_ne!(next, logs[1].incarnation);
    assert_eq!((again.logs(), again.name()), (vec![logs[0].clone(), Log::new(next)], name));
}

#[test]
fn a_log_that_failed_is_one_until_its_copy_is_whole() {
    let disk = SimDisk::default();
    let dir = open(&disk).unwrap();
    dir.add_logs(1, &Seeded::new(3)).unwrap();
    let old = dir.logs().remove(0).incarnation;
    let acknowledged = EntryId { epoch: 2, index: 77 };
    dir.logs_opened(&[(old, JournalId(4))]).unwrap();
    dir.log_failed(old, acknowledged).unwrap();
    let copy = dir.copy_begun(old, &Seeded::new(5)).unwrap();
    drop(dir);
    let dir = open(&disk).unwrap();
    let failed = dir.logs().remove(0);
    let marks = (failed.incarnation, failed.journal, failed.failed, failed.copy);
    assert_eq!(marks, (old, Some(JournalId(4)), Some(acknowledged), Some(copy)));
    dir.copied(&failed, copy).unwrap();
    drop(dir);
    let dir = open(&disk).unwrap();
    assert_eq!(dir.logs(), [Log { journal: Some(JournalId(4)), succeeds: Some(old), ..Log::new(copy) }]);
    dir.logs_opened(&[(copy, JournalId(4))]).unwrap();
    assert_eq!(dir.logs(), [Log { journal: Some(JournalId(4)), ..Log::new(copy) }]);
}

#[test]
fn an_identity_of_another_format_or_that_is_broken_is_refused() {
    let disk = SimDisk::default();
    drop(open(&disk).unwrap());
    let path = Path::new("/data/node");
    disk.replace(path, b"format = 3\n").unwrap();
    assert!(matches!(open(&disk), Err(StartError::NewerFormat { found: 3, .. })));
    disk.replace(path, b"format = 1\n").unwrap();
    assert!(matches!(open(&disk), Err(StartError::OlderFormat { found: 1, .. })));
    disk.replace(path, b"format = 2\nname = x\n").unwrap();
    assert!(matches!(open(&disk), Err(StartError::BadIdentity { .. })));
    let name = uuid::Uuid::from_u128(5);
    for log in ["", "zz", "12 journal", "12 failed 3", "12 kept 3"] {
        disk.replace(path, format!("format = 2\nname = {name}\nlog = {log}\n").as_bytes()).unwrap();
        assert!(matches!(open(&disk), Err(StartError::BadIdentity { .. })), "{log}");
    }
}

#[test]
fn a_real_directory_is_locked_and_one_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| DataDir::open(Arc::new(RealDisk), path, &Seeded::new(1));
    let held = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StartError::InUse { .. })));
    drop(held);
    open(dir.path()).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(open(&file.join("data")), Err(StartError::NotWritable { .. })));
}
