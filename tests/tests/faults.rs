//! The four services as processes, and what breaks around them. Started by `cargo xtask integration`, which has etcd
//! and the S3 server ready; each test has a cluster of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tidemark_tests::clients::{admin_for, create_on, eventually, unique};
use tidemark_tests::collector::Collector;
use tidemark_tests::load::{Load, Reading};
use tidemark_tests::target::{binaries, directory};
use xtask::cluster::{Options, Services};
use xtask::process::http_get;

const PARTITIONS: i32 = 6;

/// How long etcd is away. Longer than a node's lease.
const ETCD_AWAY: Duration = Duration::from_secs(30);

/// How long the S3 server is away. Many times the age at which data is tiered here.
const S3_AWAY: Duration = Duration::from_secs(60);

struct Cluster {
    services: Services,
    _dir: Option<tempfile::TempDir>,
}

impl Cluster {
    fn start(options: &Options) -> Self {
        let binaries = binaries().expect("the services build");
        let (dir, guard) = directory("faults").expect("a directory can be made");
        let dir = dir.join(unique("cluster"));
        let services = Services::start(&binaries, &dir, options).unwrap_or_else(|error| panic!("{error:#}"));
        create_on(&admin_for(&services.bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
        Self { services, _dir: guard }
    }

    fn load(&self) -> Load {
        Load::start(&self.services.bootstrap, "load", PARTITIONS)
    }

    fn reading(&self) -> Reading {
        Reading::start(&self.services.bootstrap, "load", PARTITIONS)
    }

    /// Kills a service, and starts it again once the load has noticed or gone on without it.
    fn kill_and_restart(&mut self, name: &str, load: &Load) {
        let before = load.count();
        self.services.kill(name).expect("a service of this name");
        let noticed = Instant::now();
        while load.count() < before + 500 && noticed.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.services.start_again(name).unwrap_or_else(|error| panic!("{error:#}"));
        load.progress(1000);
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
fn any_service_can_be_killed_and_nothing_acknowledged_is_lost_or_doubled() {
    let mut cluster = Cluster::start(&Options::default());
    let load = cluster.load();
    let reading = cluster.reading();
    load.progress(1000);
    for name in cluster.services.names() {
        let began = Instant::now();
        cluster.kill_and_restart(&name, &load);
        eprintln!("{name} killed and back, 1000 records later after {:.1?}", began.elapsed());
    }
    reading.reaches(load.count());
    reading.finish();
    let count = load.verify(&cluster.services.bootstrap);
    eprintln!("{count} records, each there once");
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn a_service_asked_to_stop_drains_and_exits_with_zero() {
    let mut cluster = Cluster::start(&Options::default());
    let load = cluster.load();
    for name in cluster.services.names() {
        load.progress(500);
        cluster.services.terminate(&name).unwrap_or_else(|error| panic!("{error:#}"));
        cluster.services.start_again(&name).unwrap_or_else(|error| panic!("{error:#}"));
    }
    load.progress(500);
    load.verify(&cluster.services.bootstrap);
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn etcd_away_for_half_a_minute_stops_neither_produce_nor_fetch() {
    let mut cluster = Cluster::start(&Options::default());
    let load = cluster.load();
    let reading = cluster.reading();
    load.progress(1000);
    cluster.services.etcd.process.kill();
    let away = Instant::now();
    while away.elapsed() < ETCD_AWAY {
        load.progress(500);
        reading.reaches(load.count());
    }
    cluster.services.etcd.restart().unwrap_or_else(|error| panic!("{error:#}"));
    let admin = admin_for(&cluster.services.bootstrap);
    eventually("topics to be created again", || create_on(&admin, &unique("after"), 1, &[]).is_ok());
    load.progress(1000);
    reading.reaches(load.count());
    reading.finish();
    load.verify(&cluster.services.bootstrap);
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn the_s3_server_away_stops_nobody_and_tiering_catches_up() {
    let options = Options { storage: TIER_SOON.to_owned(), ..Options::default() };
    let mut cluster = Cluster::start(&options);
    let load = cluster.load();
    eventually("the first segments", || cluster.services.s3.objects() > 0);
    cluster.services.s3.process.kill();
    let objects = cluster.services.s3.objects();
    let away = Instant::now();
    while away.elapsed() < S3_AWAY {
        load.progress(500);
    }
    cluster.services.s3.restart().unwrap_or_else(|error| panic!("{error:#}"));
    eventually("tiering to go on", || cluster.services.s3.objects() > objects + 1);
    load.progress(500);
    // Reads it all, what was tiered from the bucket.
    load.verify(&cluster.services.bootstrap);
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn what_is_tiered_outlives_every_process() {
    let options = Options { storage: TIER_SOON.to_owned(), ..Options::default() };
    let mut cluster = Cluster::start(&options);
    let load = cluster.load();
    eventually("some segments", || cluster.services.s3.objects() > 3);
    for name in cluster.services.names() {
        cluster.services.kill(&name).expect("a service of this name");
    }
    for name in cluster.services.names() {
        cluster.services.start_unready(&name).unwrap_or_else(|error| panic!("{error:#}"));
    }
    cluster.services.wait_ready().unwrap_or_else(|error| panic!("{error:#}"));
    load.progress(500);
    load.verify(&cluster.services.bootstrap);
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn a_full_disk_refuses_appends_reads_go_on_and_room_mends_it() {
    // A file system of its own, so that nobody else's disk is full.
    let Some(small) = SmallDisk::mount("64m") else {
        eprintln!("skipped: a file system can be mounted by root only");
        return;
    };
    let data_dir = small.dir.display().to_string();
    let options = Options { storage: SMALL_FILES.to_owned(), storage_dir: Some(data_dir), ..Options::default() };
    let cluster = Cluster::start(&options);
    let load = cluster.load();
    let reading = cluster.reading();
    load.progress(1000);
    let http = cluster.services.http("storage-0").expect("there is a storage service").to_owned();
    let page = || http_get(&http, "/readyz").unwrap_or_default();
    assert_eq!(page().0, 200);

    let ballast = small.fill();
    eventually("the disk to be full", || page().0 == 503);
    eprintln!("what an operator sees: {}", page().1.trim());
    // Whatever was acknowledged can be read, by those who read on and by those who begin.
    reading.reaches(load.count());
    let from_start = cluster.reading();
    from_start.reaches(load.count());

    std::fs::remove_file(ballast).expect("the ballast is removed");
    load.progress(1000);
    eventually("the storage service to be ready again", || page().0 == 200);
    for reading in [reading, from_start] {
        reading.reaches(load.count());
        reading.finish();
    }
    load.verify(&cluster.services.bootstrap);
}

/// Storage's settings under which the log needs room for another file soon.
const SMALL_FILES: &str = "wal_file_bytes = 1048576\n";

/// A file system in memory, unmounted when dropped.
struct SmallDisk {
    dir: PathBuf,
    _guard: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let guard = tempfile::tempdir().expect("a directory can be made");
        let dir = guard.path().to_owned();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&dir).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { dir, _guard: guard })
    }

    /// Takes all of the room that is left with one file.
    fn fill(&self) -> PathBuf {
        let path = self.dir.join("ballast");
        let mut ballast = std::fs::File::create(&path).expect("a file can be made");
        while ballast.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the service that has it open may be dropped after this.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn one_trace_goes_from_the_produce_at_the_gateway_down_to_the_fsync() {
    let collector = Collector::start().expect("a port is free");
    let options = Options { otlp_endpoint: Some(collector.endpoint.clone()), ..Options::default() };
    let cluster = Cluster::start(&options);
    let load = cluster.load();
    let way = [
        "tidemark-gateway: kafka.request",
        "tidemark-broker: serve",
        "tidemark-broker: broker.produce",
        "tidemark-storage: serve",
        "tidemark-storage: storage.append",
        "tidemark-storage: wal.commit",
    ];
    let mut seen = Vec::new();
    eventually("a trace over all hops", || {
        let longest = collector.longest_way("kafka.request");
        if longest != seen {
            eprintln!("the longest way so far: {longest:?}");
            seen = longest;
        }
        seen == way
    });
    load.verify(&cluster.services.bootstrap);
}

/// Storage's settings under which a test sees segments within seconds.
const TIER_SOON: &str = "segment_bytes = 1000000\nsegment_ms = 1000\n";
