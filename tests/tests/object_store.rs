//! A standalone whose bucket is on an S3 server behind a proxy, which does to its requests whatever happens to them in the
//! world. Started by `cargo xtask integration`, which has the S3 server ready.

use std::path::PathBuf;
use std::time::Duration;

use tidemark_tests::clients::{admin_for, create_on, eventually, unique};
use tidemark_tests::load::{Load, Reading};
use tidemark_tests::metrics::metric;
use tidemark_tests::proxy::{Fault, Proxy};
use tidemark_tests::target::{binaries, directory};
use xtask::cluster::{S3, Standalone};
use xtask::process::{http_get, wait_for};

const PARTITIONS: i32 = 6;
/// Longer than the client of the object store tries one request before it tells anybody.
const TOLD_WITHIN: Duration = Duration::from_secs(240);
/// How far the copy of the metadata in the bucket may be behind.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// All of them, between requests that are carried out.
const MIXED: &[Fault] = &[
    Fault::None,
    Fault::Slow(Duration::from_millis(300)),
    Fault::SlowDown,
    Fault::None,
    Fault::Truncated,
    Fault::Reset,
    Fault::None,
    Fault::ResetAfter,
];

struct Rig {
    s3: S3,
    proxy: Proxy,
    standalone: Standalone,
    _dir: Option<tempfile::TempDir>,
}

impl Rig {
    fn start() -> Self {
        let (dir, guard) = place();
        let s3 = S3::start(&dir.join("s3")).unwrap_or_else(|error| panic!("{error:#}"));
        let proxy = Proxy::start(&s3.address).expect("a port is free");
        let standalone = start(&s3, &proxy.address, S3::BUCKET, S3::SECRET_KEY, &dir);
        let standalone = standalone.unwrap_or_else(|error| panic!("{error:#}"));
        Self { s3, proxy, standalone, _dir: guard }
    }

    /// The sum of a metric over its labels that hold `of`.
    fn metric(&self, name: &str, of: &str) -> f64 {
        metric(&self.standalone.http, name, &[of]).ok().flatten().unwrap_or(0.0)
    }

    fn written(&self) -> f64 {
        self.metric("tidemark_object_store_written_bytes_total", "")
    }
}

fn place() -> (PathBuf, Option<tempfile::TempDir>) {
    let (dir, guard) = directory("object-store").expect("a directory can be made");
    (dir.join(unique("one")), guard)
}

fn start(s3: &S3, address: &str, bucket: &str, secret: &str, dir: &std::path::Path) -> anyhow::Result<Standalone> {
    let (endpoint, bucket) = (format!("http://{address}"), format!("s3://{bucket}/prefix"));
    let mut settings = s3.environment();
    settings.retain(|(key, _)| *key != "AWS_ENDPOINT" && *key != "AWS_SECRET_ACCESS_KEY");
    let more = [
        ("AWS_ENDPOINT", endpoint),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("TIDEMARK_OBJECT_STORE", bucket),
        ("TIDEMARK_SEGMENT_BYTES", "300000".to_owned()),
        ("TIDEMARK_SEGMENT_MS", "300".to_owned()),
        ("TIDEMARK_METADATA_SNAPSHOT_INTERVAL_MS", SNAPSHOT_INTERVAL.as_millis().to_string()),
    ];
    settings.extend(more);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Standalone::start_with(&binaries()?.join("tidemark"), dir, &settings)
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn whatever_happens_to_its_requests_nothing_is_lost_or_doubled_and_it_goes_on() {
    let rig = Rig::start();
    let bootstrap = &rig.standalone.bootstrap;
    create_on(&admin_for(bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
    let load = Load::start(bootstrap, "load", PARTITIONS);
    let reading = Reading::start(bootstrap, "load", PARTITIONS);
    eventually("the first segments", || rig.written() > 0.0);
    let kinds: [(&[Fault], usize); 7] = [
        (&[Fault::Slow(Duration::from_secs(3))], 4),
        (&[Fault::SlowDown], 6),
        (&[Fault::Truncated], 4),
        (&[Fault::Reset], 6),
        (&[Fault::ResetAfter], 6),
        (&[Fault::Hang], 2),
        (MIXED, 30),
    ];
    for (faults, requests) in kinds {
        let met = rig.proxy.met();
        rig.proxy.set(faults);
        load.progress(500);
        eventually("requests to meet it", || rig.proxy.met() >= met + requests);
        load.progress(500);
        reading.reaches(load.count());
        rig.proxy.set(&[Fault::None]);
        let written = rig.written();
        eventually("tiering to go on", || rig.written() > written);
        eprintln!("{faults:?}: {} requests met it", rig.proxy.met() - met);
    }
    for outcome in ["failed", "timed_out"] {
        let label = format!("outcome=\"{outcome}\"");
        // What hung is given up after ten seconds; others may have gone on meanwhile.
        eventually(&format!("{outcome} to be counted"), || {
            rig.metric("tidemark_object_store_requests_total", &label) > 0.0
        });
    }
    assert!(rig.metric("tidemark_object_store_retries_total", "") > 0.0);
    reading.finish();
    // What is read back comes through the faults as well.
    rig.proxy.set(MIXED);
    let count = load.verify(bootstrap);
    eprintln!("{count} records, each there once, in {} objects", rig.s3.objects());
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn one_that_is_away_is_told_by_readyz_and_one_that_is_back_too() {
    let mut rig = Rig::start();
    let bootstrap = &rig.standalone.bootstrap;
    create_on(&admin_for(bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
    let load = Load::start(bootstrap, "load", PARTITIONS);
    let page = || http_get(&rig.standalone.http, "/readyz").unwrap_or_default();
    assert_eq!(page().0, 200);
    rig.proxy.set(&[Fault::SlowDown]);
    create_on(&admin_for(bootstrap), "meanwhile", 1, &[]).expect("topics need no object store");
    let told = || {
        let (status, text) = page();
        status == 503 && text.contains("NOT READY object store") && text.contains("NOT READY metadata snapshots")
    };
    wait_for("it to be told", TOLD_WITHIN, told).unwrap_or_else(|error| panic!("{error}: {:?}", page()));
    eprintln!("what an operator sees: {}", page().1.trim());
    eventually("the age of the last snapshot of the metadata to be told", || {
        rig.metric("tidemark_coordinator_snapshot_age_seconds", "") > SNAPSHOT_INTERVAL.as_secs_f64()
    });
    load.progress(500);
    rig.proxy.set(&[Fault::None]);
    wait_for("it to be ready again", TOLD_WITHIN, || page().0 == 200).unwrap_or_else(|error| panic!("{error}"));
    load.progress(500);
    load.verify(bootstrap);
    assert!(rig.standalone.process.is_running());
}

#[test]
#[ignore = "run by cargo xtask integration"]
fn a_wrong_bucket_or_secret_is_refused_at_the_start_with_what_is_wrong() {
    let (dir, _guard) = place();
    let s3 = S3::start(&dir.join("s3")).unwrap_or_else(|error| panic!("{error:#}"));
    let refused = |bucket: &str, secret: &str| {
        let started = start(&s3, &s3.address, bucket, secret, &dir.join(unique("refused")));
        format!("{:#}", started.expect_err("it must not start"))
    };
    let error = refused("no-such-bucket", S3::SECRET_KEY);
    assert!(error.contains("s3://no-such-bucket/prefix") && error.contains("the bucket does not exist"), "{error}");
    let error = refused(S3::BUCKET, "wrong");
    assert!(error.contains("object store refused") && error.contains("SignatureDoesNotMatch"), "{error}");
    start(&s3, &s3.address, S3::BUCKET, S3::SECRET_KEY, &dir.join("right")).unwrap_or_else(|error| panic!("{error:#}"));
}
