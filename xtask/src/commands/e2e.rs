//! `cargo xtask e2e`

use anyhow::Result;
use xtask::cluster::Kafka;
use xtask::sh;

use super::test::need_build_tools;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Starts Apache Kafka 4.2 and runs the suite on it: a test that fails there is a wrong test.
    #[arg(long, conflicts_with = "bootstrap")]
    kafka: bool,
    /// Runs the suite on what listens there. Without either it starts `tidemark standalone`.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Passed to the test program: a filter, --nocapture, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    let mut test = sh::cargo();
    test.args(["test", "--package", "tidemark-tests", "--test", "e2e", "--test", "groups", "--"]).args(&args.rest);
    if let Some(bootstrap) = &args.bootstrap {
        return sh::run(test.env("TIDEMARK_E2E_BOOTSTRAP", bootstrap));
    }
    if !args.kafka {
        return sh::run(&mut test);
    }
    let dir = tempfile::tempdir()?;
    let kafka = Kafka::start(dir.path())?;
    eprintln!("Apache Kafka 4.2 at {}, started in {:.1?}", kafka.bootstrap, kafka.started_in);
    let result = sh::run(test.env("TIDEMARK_E2E_BOOTSTRAP", &kafka.bootstrap));
    if result.is_err() {
        eprintln!("--- the end of Kafka's log\n{}", sh::last_lines(&kafka.process.log(), 40));
    }
    result
}
