//! `cargo xtask example`

use anyhow::Result;
use xtask::cluster::Standalone;
use xtask::sh;

use super::test::need_build_tools;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    example: Example,
}

#[derive(Debug, clap::Subcommand)]
enum Example {
    /// A shop's clicks, searches and orders, counted, stored and watched (`tests/examples/webshop`).
    Webshop(Webshop),
}

#[derive(Debug, clap::Args)]
struct Webshop {
    /// Runs on what listens there. Without it `tidemark standalone` is built and started.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Passed to the example.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Example::Webshop(args) = &args.example;
    need_build_tools()?;
    let mut shop = sh::cargo();
    shop.args(["run", "--quiet", "--package", "tidemark-tests", "--example", "webshop", "--"]).args(&args.rest);
    if let Some(bootstrap) = &args.bootstrap {
        return sh::run(shop.args(["--bootstrap", bootstrap]));
    }
    sh::run(sh::cargo().args(["build", "--package", "tidemark", "--bins"]))?;
    let dir = tempfile::Builder::new().prefix("tidemark-webshop-").tempdir()?;
    let standalone = Standalone::start(&sh::target_dir().join("debug").join("tidemark"), dir.path())?;
    eprintln!("tidemark standalone at {}", standalone.bootstrap);
    let result = sh::run(shop.args(["--bootstrap", &standalone.bootstrap]));
    if result.is_err() {
        eprintln!("--- the end of its log\n{}", sh::last_lines(&standalone.process.log(), 40));
    }
    result
}
