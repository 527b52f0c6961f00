//! `cargo xtask …`: everything a developer or the CI does with this checkout, by one name each.

#![allow(clippy::print_stdout, reason = "results go to standard output, progress to standard error")]

mod commands;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own tools", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Format, layers, licences, advisories, clippy, documentation.
    Check,
    /// `check`, then every test of the workspace, the end-to-end suite on standalone included.
    Test,
    /// Builds a release of `tidemark` and runs it standalone; what follows is passed on.
    Up(commands::up::Args),
    /// The end-to-end suite alone, against Apache Kafka 4.2 or any bootstrap address.
    E2e(commands::e2e::Args),
    /// The four services as processes with etcd and an S3 server: the end-to-end suite, then the fault tests.
    Integration(commands::integration::Args),
    /// Apache Kafka 4.2, standalone and the four services, measured by turns with one client.
    Bench(commands::bench::Args),
    /// What must hold while things break, for as long as one likes.
    Chaos(commands::chaos::Args),
    /// Seeded simulations of the storage service or of consumer groups, or the bugs they have to catch.
    Sim(commands::sim::Args),
    /// Clients in other languages, each with its defaults.
    Conformance(commands::conformance::Args),
    /// Runs an example from end to end.
    Example(commands::example::Args),
    /// Container images from the local build.
    Images(commands::images::Args),
    /// The cluster of `deploy/docker-compose.yml`: up from local images, scaled, checked by a client, and down.
    Compose(commands::compose::Args),
    /// Fetches or builds the outside servers that tests use, and prints where they are.
    Tools,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nError: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Check => xtask::check::all(),
        Command::Test => commands::test::run(),
        Command::Up(args) => commands::up::run(&args),
        Command::E2e(args) => commands::e2e::run(&args),
        Command::Integration(args) => commands::integration::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Chaos(args) => commands::chaos::run(&args),
        Command::Sim(args) => commands::sim::run(&args),
        Command::Conformance(args) => commands::conformance::run(&args),
        Command::Example(args) => commands::example::run(&args),
        Command::Images(args) => commands::images::run(&args),
        Command::Compose(args) => commands::compose::run(&args),
        Command::Tools => commands::tools::run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
