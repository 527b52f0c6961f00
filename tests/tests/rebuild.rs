//! Everything is lost but the bucket, or all but the bucket and the write-ahead logs, and a cluster is made of it again.
//!
//! Those of one process run with the other tests, those of four services by `cargo xtask integration`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::FutureProducer;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_tests::clients::*;
use tidemark_tests::load::Load;
use tidemark_tests::metrics::metric;
use tidemark_tests::raw::{Connection, describe_topic_at, init_producer_id};
use tidemark_tests::target::{binaries, directory};
use xtask::cluster::{Options, S3, Services, Standalone};

const PARTITIONS: i32 = 6;
const RECORDS: i32 = 3_000;
const GROUP: &str = "billing";
/// What the group has read of each partition.
const COMMITTED: i64 = 123;

/// Settings under which a standalone has all in its bucket within a second.
const SOON: &[(&str, &str)] = &[
    ("TIDEMARK_SEGMENT_BYTES", "100000"),
    ("TIDEMARK_SEGMENT_MS", "200"),
    ("TIDEMARK_METADATA_SNAPSHOT_INTERVAL_MS", "500"),
];

/// Settings under which what is young stays in the log.
const LATE: &[(&str, &str)] = &[
    ("TIDEMARK_SEGMENT_BYTES", "100000"),
    ("TIDEMARK_SEGMENT_MS", "3600000"),
    ("TIDEMARK_METADATA_SNAPSHOT_INTERVAL_MS", "500"),
];

fn standalone(settings: &[(&'static str, &'static str)]) -> (Standalone, Option<tempfile::TempDir>) {
    let binary = binaries().expect("tidemark builds").join("tidemark");
    let (dir, guard) = directory("rebuild").expect("a directory can be made");
    let dir = dir.join(unique("one"));
    let standalone = Standalone::start_with(&binary, &dir, settings).unwrap_or_else(|error| panic!("{error:#}"));
    (standalone, guard)
}

fn rebuild(args: &[&str], environment: &[(&'static str, String)]) -> Output {
    let binary = binaries().expect("tidemark builds").join("tidemark");
    let mut command = Command::new(binary);
    command.args(["storage", "rebuild"]).args(args).envs(environment.iter().map(|(key, value)| (*key, value.as_str())));
    command.output().expect("tidemark runs")
}

/// Rebuilds, and gives back what it told.
fn rebuilt(args: &[&str], environment: &[(&'static str, String)]) -> String {
    let Output { status, stdout, stderr } = rebuild(args, environment);
    let (told, failed) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{told}{failed}");
    eprintln!("{told}");
    told.into_owned()
}

/// Why it did not rebuild.
fn refused(args: &[&str], environment: &[(&'static str, String)]) -> String {
    let Output { status, stderr, .. } = rebuild(args, environment);
    assert!(!status.success());
    String::from_utf8_lossy(&stderr).into_owned()
}

/// How many offsets a dry run finds in the bucket, by topic.
fn in_bucket(object_store: &str, environment: &[(&'static str, String)]) -> BTreeMap<String, i64> {
    // It looks at no metadata store.
    let args = ["--dry-run", "--object-store", object_store, "--metadata", "file:///nowhere/store"];
    let Output { status, stdout, .. } = rebuild(&args, environment);
    if !status.success() {
        return BTreeMap::new();
    }
    let told = String::from_utf8_lossy(&stdout).into_owned();
    let topic = |line: &str| {
        let (name, rest) = line.strip_prefix("  ")?.split_once(": ")?;
        let (_, count) = rest.split_once(" partitions, ")?;
        Some((name.to_owned(), count.split_once(" offsets in the bucket")?.0.parse().ok()?))
    };
    told.lines().filter_map(topic).collect()
}

/// Waits until the newest snapshot has all that was changed before.
fn await_snapshot(http: &str) {
    let value = |name| metric(http, name, &[]).ok().flatten();
    let checks = || value("tidemark_coordinator_snapshot_checks_total");
    // A check that is under way now may have begun before the change. The one after it has not.
    let mut before = None;
    eventually("a look at the metadata's snapshots", || {
        before = before.or_else(checks);
        before.zip(checks()).is_some_and(|(before, now)| now >= before + 2.0)
    });
    eventually("a snapshot of the metadata", || {
        value("tidemark_coordinator_snapshots_total").is_some()
            && value("tidemark_coordinator_snapshot_age_seconds") == Some(0.0)
    });
}

/// What clients have of the topic.
struct Before {
    records: Vec<Acknowledged>,
    /// It goes on over everything.
    producer: FutureProducer,
    epochs: Vec<i32>,
    producer_id: i64,
}

fn fill(bootstrap: &str) -> Before {
    create_on(&admin_for(bootstrap), "orders", PARTITIONS, &[("retention.bytes", "123456789")]).expect("it is created");
    let producer = producer_for(bootstrap, &[("enable.idempotence", "true"), ("message.timeout.ms", "120000")]);
    let records: Vec<_> = (0..RECORDS).map(|n| Record::new(format!("{n:09}-{n:0>200}")).to(n % PARTITIONS)).collect();
    let records = produce(&producer, "orders", &records);
    let group = consumer_for(bootstrap, &[("group.id", GROUP)]);
    let mut offsets = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let offset = Offset::Offset(COMMITTED + i64::from(partition));
        offsets.add_partition_offset("orders", partition, offset).expect("a valid offset");
    }
    group.commit(&offsets, CommitMode::Sync).expect("the offsets are committed");
    let first = bootstrap.split(',').next().expect("an address");
    let (_, producer_id, _) = init_producer_id(&mut Connection::open(first));
    Before { records, producer, epochs: epochs(bootstrap), producer_id }
}

fn epochs(bootstrap: &str) -> Vec<i32> {
    let first = bootstrap.split(',').next().expect("an address");
    let mut epochs = Vec::new();
    eventually("the topic to have leaders", || {
        let topic = describe_topic_at(first, "orders");
        epochs = topic.leaders.iter().filter(|(address, _)| !address.is_empty()).map(|(_, epoch)| *epoch).collect();
        epochs.len() == PARTITIONS as usize
    });
    epochs
}

/// Everything is there as it was, and goes on.
fn check(before: &Before, bootstrap: &str) {
    let all = read_topic_with(&consumer_for(bootstrap, &[]), "orders", PARTITIONS);
    assert_eq!(all.iter().map(Vec::len).sum::<usize>(), before.records.len());
    for at in &before.records {
        assert_eq!(all[at.partition as usize][at.offset as usize].value, at.value);
    }
    check_metadata(before, bootstrap);
    // The producer from before goes on where it was, with the sequences that it had.
    let more: Vec<_> = (0..PARTITIONS * 10).map(|n| Record::new(format!("more {n}")).to(n % PARTITIONS)).collect();
    let more = produce(&before.producer, "orders", &more);
    let all = read_topic_with(&consumer_for(bootstrap, &[]), "orders", PARTITIONS);
    assert_eq!(all.iter().map(Vec::len).sum::<usize>(), before.records.len() + more.len(), "each once");
    for at in &more {
        assert_eq!(all[at.partition as usize][at.offset as usize].value, at.value);
    }
}

fn check_metadata(before: &Before, bootstrap: &str) {
    for (epoch, before) in epochs(bootstrap).iter().zip(&before.epochs) {
        assert!(epoch > before, "leader epoch {epoch} after {before}");
    }
    let group: BaseConsumer = consumer_for(bootstrap, &[("group.id", GROUP)]);
    let mut offsets = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        offsets.add_partition("orders", partition);
    }
    let committed = group.committed_offsets(offsets, PATIENCE).expect("the group's offsets are known");
    for partition in 0..PARTITIONS {
        let offset = committed.find_partition("orders", partition).expect("it was asked for").offset();
        assert_eq!(offset, Offset::Offset(COMMITTED + i64::from(partition)));
    }
    let resource = rdkafka::admin::ResourceSpecifier::Topic("orders");
    let configs = block_on(admin_for(bootstrap).describe_configs([&resource], &admin_options())).expect("an answer");
    let configs = configs.into_iter().next().expect("one answer").expect("the topic's configs");
    let retention = configs.get("retention.bytes").and_then(|entry| entry.value.as_deref());
    assert_eq!(retention, Some("123456789"));
    let first = bootstrap.split(',').next().expect("an address");
    let (_, id, _) = init_producer_id(&mut Connection::open(first));
    assert!(id > before.producer_id, "producer id {id} after {}", before.producer_id);
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn objects(standalone: &Standalone) -> String {
    format!("file://{}", standalone.data_dir().join("objects").display())
}

/// The snapshots of the metadata that are in a standalone's bucket.
fn snapshots(standalone: &Standalone) -> BTreeMap<PathBuf, Vec<u8>> {
    fn find(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).expect("it is a directory") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                find(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "snapshot") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                found.insert(path, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    find(&standalone.data_dir().join("objects"), &mut found);
    found
}

/// Has these snapshots in the bucket, and no others.
fn put_back(standalone: &Standalone, before: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(!before.is_empty(), "there was a snapshot");
    for path in snapshots(standalone).keys() {
        std::fs::remove_file(path).expect("it can be removed");
    }
    for (path, bytes) in before {
        std::fs::write(path, bytes).expect("it can be written");
    }
}

#[test]
fn a_standalone_of_which_only_the_bucket_is_left() {
    let (mut standalone, _dir) = standalone(SOON);
    let before = fill(&standalone.bootstrap);
    let objects = objects(&standalone);
    eventually("all to be in the bucket", || in_bucket(&objects, &[]).get("orders") == Some(&i64::from(RECORDS)));
    await_snapshot(&standalone.http);
    standalone.process.kill();
    let data = standalone.data_dir();
    for lost in ["storage", "metadata"] {
        remove(&data.join(lost));
    }
    // Nobody takes the bucket for a new one.
    let error = standalone.restart().expect_err("it must not start on a bucket of another");
    let error = format!("{error:#}");
    assert!(error.contains("belongs to cluster") && error.contains("tidemark storage rebuild"), "{error}");

    let dir = data.display().to_string();
    let refusal = refused(&["--data-dir", &dir], &[]);
    assert!(refusal.contains("the metadata store has a cluster in it"), "{refusal}");
    for lost in ["storage", "metadata"] {
        remove(&data.join(lost));
    }
    let told = rebuilt(&["--data-dir", &dir, "--dry-run"], &[]);
    assert!(told.contains("Nothing was changed") && !data.join("metadata").exists(), "{told}");
    let told = rebuilt(&["--data-dir", &dir], &[]);
    assert!(told.contains(&format!("orders: {PARTITIONS} partitions, {RECORDS} offsets in the bucket")), "{told}");
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    check(&before, &standalone.bootstrap);
    // It is a cluster as any other.
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    create_on(&admin_for(&standalone.bootstrap), "after", 1, &[]).expect("a topic is created");
    await_snapshot(&standalone.http);
}

#[test]
fn a_standalone_that_lost_its_log_goes_on_behind_what_was_in_the_bucket() {
    let (mut standalone, _dir) = standalone(LATE);
    let mut before = fill(&standalone.bootstrap);
    // Far less than what is tiered at once.
    let young: Vec<_> = (0..PARTITIONS * 5).map(|n| Record::new(format!("young {n}")).to(n % PARTITIONS)).collect();
    before.records.extend(produce(&before.producer, "orders", &young));
    let objects = objects(&standalone);
    let most = i64::from(RECORDS) / 2;
    eventually("much to be in the bucket", || {
        in_bucket(&objects, &[]).get("orders").is_some_and(|there| *there >= most)
    });
    await_snapshot(&standalone.http);
    standalone.process.kill();
    let tiered = in_bucket(&objects, &[])["orders"];
    assert!(tiered < before.records.len() as i64, "nothing is left in the log");
    let data = standalone.data_dir();
    for lost in ["storage", "metadata"] {
        remove(&data.join(lost));
    }
    rebuilt(&["--data-dir", &data.display().to_string()], &[]);
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));

    let all = read_topic_with(&consumer_for(&standalone.bootstrap, &[]), "orders", PARTITIONS);
    assert_eq!(all.iter().map(Vec::len).sum::<usize>() as i64, tiered, "what the dry run said");
    let there = |at: &&Acknowledged| (at.offset as usize) < all[at.partition as usize].len();
    for at in before.records.iter().filter(there) {
        assert_eq!(all[at.partition as usize][at.offset as usize].value, at.value);
    }
    check_metadata(&before, &standalone.bootstrap);
    // The producer from before has sequences that nobody knows. As on Kafka it may be told so, or begin anew by itself.
    let more: Vec<_> = (0..PARTITIONS).map(|n| Record::new(format!("more {n}")).to(n)).collect();
    let results = try_produce(&before.producer, "orders", &more);
    let acknowledged = results.iter().filter(|result| result.is_ok()).count();
    let fresh = producer_for(&standalone.bootstrap, &[("enable.idempotence", "true")]);
    let fresh = produce(&fresh, "orders", &[Record::new("fresh").to(0)]).len();
    let all = read_topic_with(&consumer_for(&standalone.bootstrap, &[]), "orders", PARTITIONS);
    let mut values: Vec<&str> = all.iter().flatten().map(|record| record.value.as_str()).collect();
    values.sort_unstable();
    let count = values.len();
    values.dedup();
    assert_eq!(values.len(), count, "nothing is there twice");
    assert_eq!(count as i64, tiered + (acknowledged + fresh) as i64, "{results:?}");
}

#[test]
fn a_standalone_that_lost_its_metadata_has_all_that_its_log_has() {
    let (mut standalone, _dir) = standalone(LATE);
    let before = fill(&standalone.bootstrap);
    await_snapshot(&standalone.http);
    // Under way while it happens: what is acknowledged is there afterwards, once.
    create_on(&admin_for(&standalone.bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
    await_snapshot(&standalone.http);
    let load = Load::start(&standalone.bootstrap, "load", PARTITIONS);
    load.progress(2_000);
    // Of this one only the log has heard: the snapshot will be the one from before.
    let snapshots = snapshots(&standalone);
    create_on(&admin_for(&standalone.bootstrap), "newest", 1, &[]).expect("the topic is created");
    let newest: Vec<_> = (0..10).map(|n| Record::new(format!("newest {n}")).to(0)).collect();
    produce(&before.producer, "newest", &newest);
    standalone.process.kill();
    let data = standalone.data_dir();
    remove(&data.join("metadata"));
    put_back(&standalone, &snapshots);
    let told = rebuilt(&["--data-dir", &data.display().to_string()], &[]);
    assert!(told.contains("is there") && !told.contains("its log is lost"), "{told}");
    let mut name = told.lines().filter_map(|line| line.trim().split_once(": 1 partitions").map(|(name, _)| name));
    let name = name.find(|name| name.starts_with("recovered-")).unwrap_or_else(|| panic!("{told}")).to_owned();
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    load.progress(1_000);
    load.verify(&standalone.bootstrap);
    check(&before, &standalone.bootstrap);
    let all = read_topic_with(&consumer_for(&standalone.bootstrap, &[]), &name, 1);
    let values: Vec<&str> = all[0].iter().map(|record| record.value.as_str()).collect();
    assert_eq!(values, newest.iter().map(|record| record.value.as_str()).collect::<Vec<_>>());
}

/// Settings of the services under which all is in the bucket within a second.
fn options() -> Options {
    Options {
        coordinator: "metadata_snapshot_interval_ms = 500\n".to_owned(),
        storage: "segment_bytes = 100000\nsegment_ms = 200\n".to_owned(),
        ..Options::default()
    }
}

struct Cluster {
    services: Services,
    dir: PathBuf,
    _guard: Option<tempfile::TempDir>,
}

impl Cluster {
    fn start() -> Self {
        let binaries = binaries().expect("the services build");
        let (dir, guard) = directory("rebuild").expect("a directory can be made");
        let dir = dir.join(unique("cluster"));
        let services = Services::start(&binaries, &dir, &options()).unwrap_or_else(|error| panic!("{error:#}"));
        Self { services, dir, _guard: guard }
    }

    fn bucket() -> String {
        format!("s3://{}", S3::BUCKET)
    }

    fn metadata(&self) -> String {
        format!("etcd://{}", self.services.etcd.address)
    }

    fn await_snapshot(&self) {
        await_snapshot(self.services.http("coordinator-0").expect("there is a coordinator"));
    }

    fn kill(&mut self) {
        for name in self.services.names() {
            self.services.kill(&name).expect("a service of this name");
        }
    }

    fn start_again(&mut self) {
        for name in self.services.names() {
            self.services.start_unready(&name).unwrap_or_else(|error| panic!("{error:#}"));
        }
        self.services.wait_ready().unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// A coordinator of this metadata store on the cluster's bucket, which must not start: its last words.
    fn refused_coordinator(&self, metadata: &str) -> String {
        let binary = binaries().expect("the services build").join("tidemark-coordinator");
        let mut command = Command::new(binary);
        command.envs(self.services.s3.environment());
        let settings = [
            ("TIDEMARK_LISTEN", "127.0.0.1:0"),
            ("TIDEMARK_HTTP", "127.0.0.1:0"),
            ("TIDEMARK_METADATA", metadata),
            ("TIDEMARK_OBJECT_STORE", &Self::bucket()),
        ];
        let log = self.dir.join(unique("refused"));
        let mut process =
            xtask::process::Process::start("coordinator", &log, command.envs(settings)).expect("it starts");
        eventually("the coordinator to give up", || !process.is_running());
        process.log()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.services.logs());
        }
    }
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn four_services_of_which_only_the_bucket_is_left() {
    let mut cluster = Cluster::start();
    let before = fill(&cluster.services.bootstrap);
    let (bucket, environment) = (Cluster::bucket(), cluster.services.s3.environment());
    let all = i64::from(RECORDS);
    eventually("all to be in the bucket", || in_bucket(&bucket, &environment).get("orders") == Some(&all));
    cluster.await_snapshot();
    let words = cluster.refused_coordinator(&format!("{}/another", cluster.metadata()));
    assert!(words.contains("belongs to cluster") && words.contains("prefix of its own"), "{words}");

    cluster.kill();
    cluster.services.etcd.lose().unwrap_or_else(|error| panic!("{error:#}"));
    for name in cluster.services.names() {
        cluster.services.lose_disk(&name).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let metadata = cluster.metadata();
    rebuilt(&["--object-store", &bucket, "--metadata", &metadata], &environment);
    let refusal = refused(&["--object-store", &bucket, "--metadata", &metadata], &environment);
    assert!(refusal.contains("the metadata store has a cluster in it"), "{refusal}");
    cluster.start_again();
    check(&before, &cluster.services.bootstrap);
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn four_services_that_lost_etcd_have_all_that_their_logs_have_and_the_old_etcd_is_shut_out() {
    let mut cluster = Cluster::start();
    let before = fill(&cluster.services.bootstrap);
    create_on(&admin_for(&cluster.services.bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
    cluster.await_snapshot();
    let load = Load::start(&cluster.services.bootstrap, "load", PARTITIONS);
    load.progress(2_000);
    let storage = cluster.services.data_dir("storage-0").display().to_string();
    cluster.kill();
    // Rebuilt under another name in the same etcd, so that the one from before is there still.
    let (bucket, environment) = (Cluster::bucket(), cluster.services.s3.environment());
    let (old, new) = (cluster.metadata(), format!("{}/rebuilt", cluster.metadata()));
    let told = rebuilt(&["--object-store", &bucket, "--metadata", &new, "--wal-dir", &storage], &environment);
    assert!(!told.contains("its log is lost"), "{told}");
    let words = cluster.refused_coordinator(&old);
    assert!(words.contains("was rebuilt from it"), "{words}");
    cluster.services.configure("coordinator-0", "metadata", &new).unwrap_or_else(|error| panic!("{error:#}"));
    cluster.start_again();
    load.progress(1_000);
    load.verify(&cluster.services.bootstrap);
    check(&before, &cluster.services.bootstrap);
}
