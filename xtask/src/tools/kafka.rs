//! Apache Kafka 4.2: the oracle of behaviour and the baseline of speed, from Maven's jars.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{machine, sh};

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>io.tidemark</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.2.0</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>4.2.0</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.25.2</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.2</version>
    </dependency>
  </dependencies>
</project>
"#;

const LOG4J: &str = r#"<Configuration status="WARN">
  <Appenders>
    <Console name="out" target="SYSTEM_ERR"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"#;

/// Kafka's jars, which hold the broker and the console tools.
#[derive(Debug, Clone)]
pub struct Jars {
    dir: PathBuf,
}

/// Fetches the jars, once.
pub fn jars() -> Result<Jars> {
    machine::need("java", &["openjdk-17-jre-headless"])?;
    let dir = super::directory()?.join("kafka");
    let libs = dir.join("libs");
    let complete = dir.join("complete-4.2.0");
    if !complete.is_file() {
        machine::need("mvn", &["maven"])?;
        sh::step("fetching Apache Kafka 4.2.0 from Maven, once");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("pom.xml"), POM)?;
        fs::write(dir.join("log4j2.xml"), LOG4J)?;
        let mut mvn = Command::new("mvn");
        mvn.current_dir(&dir).args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
        sh::quietly(mvn.arg(format!("-DoutputDirectory={}", libs.display())))?;
        fs::write(complete, "")?;
    }
    Ok(Jars { dir })
}

impl Jars {
    /// A command that runs a class of Kafka.
    pub fn java(&self, heap: &str, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args([&format!("-Xms{heap}"), &format!("-Xmx{heap}"), "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.dir.join("log4j2.xml").display()));
        command.arg("-cp").arg(self.class_path()).arg(class);
        command
    }

    /// What `java -cp` and `javac -cp` take.
    pub fn class_path(&self) -> String {
        format!("{}/libs/*", self.dir.display())
    }
}
