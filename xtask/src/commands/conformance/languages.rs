//! Getting the clients that are libraries, each into a directory of its own under `target/conformance`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;
use xtask::tools::kafka::jars;
use xtask::{machine, sh};

use super::client::{Abilities, Client, From, Group, PARTITIONS, Placed, Produce, Received, Shared};
use super::driver::Driver;
use super::kcat;
use super::report::Report;
use crate::commands::test::need_build_tools;

/// Its cooperative assignor is its only sticky one.
const LIBRDKAFKA_GROUPS: &[(&str, &str)] = &[
    ("classic", "range"),
    ("classic", "roundrobin"),
    ("classic", "cooperative-sticky"),
    ("consumer", "uniform"),
    ("consumer", "range"),
];

const JAVA_GROUPS: &[(&str, &str)] = &[
    ("classic", "RangeAssignor"),
    ("classic", "RoundRobinAssignor"),
    ("classic", "StickyAssignor"),
    ("classic", "CooperativeStickyAssignor"),
    ("consumer", "uniform"),
    ("consumer", "range"),
];

const FRANZ_GO_GROUPS: &[(&str, &str)] = &[
    ("classic", "range"),
    ("classic", "roundrobin"),
    ("classic", "sticky"),
    ("classic", "cooperative-sticky"),
    ("consumer", "uniform"),
    ("consumer", "range"),
];

const KAFKA_PYTHON_GROUPS: &[(&str, &str)] =
    &[("classic", "range"), ("classic", "roundrobin"), ("classic", "sticky"), ("classic", "cooperative-sticky")];

/// A client, or why it cannot be had.
pub(super) enum Available {
    Yes(Box<dyn Client>),
    No(String),
}

/// The one that the end-to-end tests are written with.
pub(super) fn librdkafka(bootstrap: &str) -> Result<Available> {
    need_build_tools()?;
    places("librdkafka")?;
    sh::run(sh::cargo().args(["build", "--package", "tidemark-tests", "--bin", "librdkafka-driver"]))?;
    let mut command = Command::new(sh::target_dir().join("debug").join("librdkafka-driver"));
    command.arg(bootstrap);
    Ok(Available::Yes(Box::new(driver(command, "librdkafka", LIBRDKAFKA_GROUPS))))
}

pub(super) fn java(bootstrap: &str) -> Result<Available> {
    let (source, built) = places("java")?;
    let jars = match jars().and_then(|jars| machine::need("javac", &["openjdk-17-jdk-headless"]).map(|_| jars)) {
        Ok(jars) => jars,
        Err(error) => return Ok(Available::No(format!("{error:#}"))),
    };
    // What does not compile is our mistake, and no reason to skip.
    let mut javac = Command::new("javac");
    javac.args(["-cp", &jars.class_path(), "-d"]).arg(&built).arg(source.join("Driver.java"));
    sh::quietly(&mut javac)?;
    let mut java = Command::new("java");
    let class_path = format!("{}:{}", built.display(), jars.class_path());
    java.args(["-Xmx512m", "-cp", &class_path, "Driver", bootstrap]);
    Ok(Available::Yes(Box::new(driver(java, "java", JAVA_GROUPS))))
}

pub(super) fn franz_go(bootstrap: &str) -> Result<Available> {
    let (source, built) = places("franz-go")?;
    if machine::program("go").is_none() {
        return Ok(Available::No("there is no Go here (https://go.dev/dl)".to_owned()));
    }
    let go = || {
        let mut command = Command::new("go");
        command.current_dir(&source);
        command
    };
    if let Err(error) = sh::quietly(go().args(["mod", "download"])) {
        return Ok(Available::No(format!("its modules cannot be had: {error:#}")));
    }
    let program = built.join("driver");
    sh::quietly(go().args(["build", "-o"]).arg(&program).arg("."))?;
    let mut command = Command::new(program);
    command.arg(bootstrap);
    Ok(Available::Yes(Box::new(driver(command, "franz-go", FRANZ_GO_GROUPS))))
}

pub(super) fn kafka_python(bootstrap: &str) -> Result<Available> {
    let (source, built) = places("kafka-python")?;
    if machine::program("python3").is_none() {
        return Ok(Available::No("there is no python3 here (Debian: apt-get install python3-venv)".to_owned()));
    }
    let environment = built.join("venv");
    let requirements = source.join("requirements.txt");
    let python = environment.join("bin").join("python");
    let installed = once(&built, &requirements, || {
        sh::quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        sh::quietly(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))?;
        Ok(())
    });
    if let Err(error) = installed {
        return Ok(Available::No(format!("its packages cannot be had: {error:#}")));
    }
    let mut command = Command::new(python);
    command.arg(source.join("driver.py")).arg(bootstrap);
    Ok(Available::Yes(Box::new(driver(command, "kafka-python", KAFKA_PYTHON_GROUPS))))
}

pub(super) fn kafkajs(bootstrap: &str) -> Result<Available> {
    let (source, built) = places("kafkajs")?;
    if machine::program("node").is_none() || machine::program("npm").is_none() {
        return Ok(Available::No("there is no Node.js with npm here (Debian: apt-get install nodejs npm)".to_owned()));
    }
    let Available::Yes(reader) = kcat::install(bootstrap)? else {
        return Ok(Available::No(
            "it has no stand-alone consumer, and kcat, which would read for it, is missing".into(),
        ));
    };
    let package = source.join("package.json");
    let installed = once(&built, &package, || {
        fs::copy(&package, built.join("package.json"))?;
        let mut npm = Command::new("npm");
        sh::quietly(npm.current_dir(&built).args(["install", "--no-audit", "--no-fund", "--no-package-lock"]))?;
        Ok(())
    });
    if let Err(error) = installed {
        return Ok(Available::No(format!("its package cannot be had: {error:#}")));
    }
    // Beside its modules, which Node looks for from where the program lies.
    fs::copy(source.join("driver.js"), built.join("driver.js"))?;
    let mut node = Command::new("node");
    node.arg(built.join("driver.js")).arg(bootstrap);
    let driver = driver(node, "kafkajs", &[("classic", "RoundRobinAssigner")]).with_codecs(&["none", "gzip"]);
    Ok(Available::Yes(Box::new(Kafkajs { driver, reader })))
}

/// Where a client's program is, and where what is built of it goes.
fn places(name: &str) -> Result<(PathBuf, PathBuf)> {
    let built = sh::target_dir().join("conformance").join(name);
    fs::create_dir_all(&built)?;
    Ok((sh::root().join("tests").join("conformance").join(name), built))
}

fn driver(command: Command, name: &str, groups: &'static [(&'static str, &'static str)]) -> Driver {
    let log = sh::target_dir().join("conformance").join(name).join("log");
    // Of the last run only. It need not be there.
    let _ = fs::remove_file(&log);
    Driver::new(command, log).with_groups(groups)
}

/// Installs what `list` names, unless that was done before.
fn once(dir: &Path, list: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read_to_string(list)?;
    let done = dir.join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    Ok(fs::write(done, wanted)?)
}

/// kafkajs reads in groups only, so kcat reads for it.
struct Kafkajs {
    driver: Driver,
    reader: Box<dyn Client>,
}

#[derive(Deserialize)]
struct Offsets {
    /// Partition, earliest and latest offset.
    ends: Vec<(u32, i64, i64)>,
    /// Partition and offset by time.
    starts: Vec<(u32, i64)>,
}

impl Client for Kafkajs {
    fn abilities(&self) -> Abilities {
        Abilities { several_topics: false, ..self.driver.abilities() }
    }

    fn create(&mut self, topic: &str) -> Result<()> {
        self.driver.create(topic)
    }

    fn produce(&mut self, produce: &Produce<'_>) -> Result<Vec<Placed>> {
        self.driver.produce(produce)
    }

    fn read(&mut self, topics: &[&str], from: From) -> Result<Vec<Received>> {
        self.reader.read(topics, from)
    }

    fn group(&mut self, group: &Group<'_>) -> Result<Shared> {
        self.driver.group(group)
    }

    fn own_steps(&mut self, topic: &str, all: &[Received], report: &mut Report) {
        report.without("has no stand-alone consumer: kcat reads what it wrote");
        report.step("the admin client's offsets, also by time", || {
            let mut times: Vec<i64> = all.iter().map(|record| record.timestamp).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            let offsets: Offsets = self.driver.ask(&json!({"do": "offsets", "topic": topic, "timestamp": middle}))?;
            for partition in 0..PARTITIONS {
                let of: Vec<&Received> = all.iter().filter(|record| record.partition == partition).collect();
                let end = of.len() as i64;
                let found = offsets.ends.iter().find(|(number, ..)| *number == partition);
                anyhow::ensure!(
                    found == Some(&(partition, 0, end)),
                    "partition {partition}: {found:?}, not 0 to {end}"
                );
                let wanted = of.iter().find(|record| record.timestamp >= middle).map_or(end, |record| record.offset);
                let found = offsets.starts.iter().find(|(number, _)| *number == partition);
                anyhow::ensure!(found == Some(&(partition, wanted)), "at {middle}: {found:?}, not {wanted}");
            }
            Ok(())
        });
    }
}
