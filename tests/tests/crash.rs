//! `tidemark standalone`, killed and stopped in the middle of things.

#![allow(clippy::print_stdout, reason = "many rounds tell how far they are")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tidemark_tests::clients::{Record, admin_for, create_on, produce, producer_for};
use tidemark_tests::load::{Kind, Load, Reading};
use tidemark_tests::target::{binaries, directory};
use xtask::cluster::Standalone;

const PARTITIONS: i32 = 6;

/// A standalone of the test's own, with a topic. The guard keeps its directory.
fn standalone() -> (Standalone, Option<tempfile::TempDir>) {
    let binary = binaries().expect("tidemark builds").join("tidemark");
    let (dir, guard) = directory("crash").expect("a directory can be made");
    let standalone = Standalone::start(&binary, &dir).unwrap_or_else(|error| panic!("{error:#}"));
    create_on(&admin_for(&standalone.bootstrap), "load", PARTITIONS, &[]).expect("the topic is created");
    (standalone, guard)
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_once() {
    let (mut standalone, _dir) = standalone();
    let load = Load::start(&standalone.bootstrap, "load", PARTITIONS);
    let reading = Reading::start(&standalone.bootstrap, "load", PARTITIONS);
    for _ in 0..4 {
        load.progress(2000);
        standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    }
    load.progress(2000);
    reading.reaches(load.count());
    reading.finish();
    let count = load.verify(&standalone.bootstrap);
    assert!(count >= 10_000);
}

/// Settings under which a standalone has segments within seconds.
const TIER_SOON: &[(&str, &str)] =
    &[("TIDEMARK_SEGMENT_BYTES", "300000"), ("TIDEMARK_SEGMENT_MS", "300"), ("TIDEMARK_WAL_MAX_BYTES", "300000000")];

/// The segments in the object store of a standalone.
fn segments(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => segments(&entry.path()),
        _ => usize::from(entry.file_name().to_string_lossy().ends_with(".segment")),
    };
    entries.filter_map(Result::ok).map(count).sum()
}

/// `cargo xtask chaos crash` asks for more rounds.
#[test]
fn killed_under_load_at_any_moment_it_has_what_it_acknowledged() {
    let rounds =
        std::env::var("TIDEMARK_TEST_CRASH_ROUNDS").map_or(4, |rounds| rounds.parse().expect("a number of rounds"));
    let binary = binaries().expect("tidemark builds").join("tidemark");
    let (dir, _guard) = directory("crash-rounds").expect("a directory can be made");
    let mut standalone = Standalone::start_with(&binary, &dir, TIER_SOON).unwrap_or_else(|error| panic!("{error:#}"));
    // Any numbers will do: what is met is told by the clock.
    let mut chance = std::process::id();
    let (mut at_a_put, mut records) = (0, 0);
    for round in 1..=rounds {
        let load = |kind: Kind, name: &str| {
            let topic = format!("{name}-{round}");
            create_on(&admin_for(&standalone.bootstrap), &topic, PARTITIONS, &[]).expect("the topic is created");
            Load::start_of(kind, &standalone.bootstrap, &topic, PARTITIONS)
        };
        let loads = [load(Kind::Idempotent, "idempotent"), load(Kind::Plain, "plain")];
        loads.iter().for_each(|load| load.progress(500));
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if round % 2 == 0 {
            // Between a PUT and the manifest: as soon as the object is there.
            let before = segments(&dir);
            let appeared = Instant::now() + Duration::from_secs(20);
            while segments(&dir) <= before && Instant::now() < appeared {}
            at_a_put += usize::from(segments(&dir) > before);
        } else {
            std::thread::sleep(Duration::from_micros(u64::from(chance >> 12)));
        }
        standalone.restart().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        loads.iter().for_each(|load| load.progress(200));
        records += loads.map(|load| load.verify(&standalone.bootstrap)).iter().sum::<usize>();
        println!("round {round}: {records} records verified, {at_a_put} kills at a PUT");
    }
    assert!(at_a_put > 0, "no kill came at a PUT");
}

#[test]
fn asked_to_stop_it_drains_and_exits_with_zero() {
    let (mut standalone, _dir) = standalone();
    let load = Load::start(&standalone.bootstrap, "load", PARTITIONS);
    load.progress(1000);
    let status = standalone.process.terminate(Duration::from_secs(30)).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(status.code(), Some(0), "{}", standalone.process.log());
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    load.progress(1000);
    load.verify(&standalone.bootstrap);
}

#[test]
fn topics_and_their_configs_outlive_the_process() {
    let (mut standalone, _dir) = standalone();
    let producer = producer_for(&standalone.bootstrap, &[]);
    let first = produce(&producer, "load", &[Record::new("before").to(3)]);
    standalone.restart().unwrap_or_else(|error| panic!("{error:#}"));
    let second = produce(&producer, "load", &[Record::new("after").to(3)]);
    assert_eq!((first[0].offset, second[0].offset), (0, 1));
}

/// Runs a second one, which must refuse to start, and returns what it said.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(binaries().expect("tidemark builds").join("tidemark"));
    command.arg("standalone").args(arguments).envs(environment.iter().copied());
    // One that does not refuse would run for ever.
    let mut timeout = Command::new("timeout");
    timeout.arg("20").arg(command.get_program()).args(command.get_args());
    timeout.envs(environment.iter().copied());
    let output = timeout.output().expect("timeout runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && output.status.code() != Some(124), "it started: {said}");
    said
}

#[test]
fn what_cannot_work_is_refused_with_its_name() {
    let (standalone, guard) = standalone();
    let dir = guard.as_ref().map_or_else(|| std::env::temp_dir().join("unused"), |dir| dir.path().to_owned());
    let other = dir.join("other").display().to_string();
    let free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];

    let said = refusal(&["--data-dir", &other, "--listen", &standalone.bootstrap, "--http", "127.0.0.1:0"], &[]);
    assert!(said.contains(&standalone.bootstrap), "a port in use: {said}");

    let file = dir.join("file");
    std::fs::write(&file, "").expect("the file is written");
    let beneath = file.join("data").display().to_string();
    let said = refusal(&[&["--data-dir", &beneath][..], &free].concat(), &[]);
    assert!(said.contains(&beneath), "a directory that cannot be: {said}");

    let said = refusal(&[&["--data-dir", &other][..], &free].concat(), &[("TIDEMARK_LISTENN", "x")]);
    assert!(said.to_lowercase().contains("listenn"), "a setting nobody knows: {said}");

    let newer = dir.join("newer");
    std::fs::create_dir_all(newer.join("storage")).expect("the directory is made");
    std::fs::write(newer.join("storage/node"), "format = 99\n").expect("the file is written");
    let newer = newer.display().to_string();
    let said = refusal(&[&["--data-dir", &newer][..], &free].concat(), &[]);
    assert!(said.contains(&newer) && said.contains("99"), "a directory of a newer format: {said}");

    if guard.is_some() {
        let taken = dir.join("data").display().to_string();
        let said = refusal(&[&["--data-dir", &taken][..], &free].concat(), &[]);
        assert!(said.contains(&taken), "a data directory in use: {said}");
    }
}
