//! The flags that every service takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) config: Option<PathBuf>,
    pub(super) print_config: bool,
    pub(super) health: Option<String>,
}

/// Prints and exits for `--help`, `--version` and what it does not know.
pub(super) fn parse(service: &'static str, args: impl IntoIterator<Item = OsString>) -> Flags {
    let mut matches = command(service).get_matches_from(args);
    Flags {
        config: matches.remove_one("config"),
        print_config: matches.get_flag("print-config"),
        health: matches.remove_one("health"),
    }
}

fn command(service: &'static str) -> Command {
    Command::new(service)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Every key of the configuration can be set in the environment: TIDEMARK_LISTEN sets `listen`, \
             TIDEMARK_TELEMETRY__LOG sets `log` of the section `telemetry`.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Reads the configuration from a TOML file"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Prints the configuration that results, and exits"),
        )
        .arg(
            Arg::new("health")
                .long("health")
                .value_name("URL")
                .conflicts_with_all(["config", "print-config"])
                .help("Asks a running service, such as http://127.0.0.1:8080/readyz, and exits 0 when it is well"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent_and_read() {
        command("tidemark-test").debug_assert();
        let args = ["tidemark-test", "--config", "a.toml", "--print-config"].map(OsString::from);
        let flags = Flags { config: Some("a.toml".into()), print_config: true, health: None };
        assert_eq!(parse("tidemark-test", args), flags);
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(command("tidemark-test").try_get_matches_from(["tidemark-test", "--confg", "x"]).is_err());
    }
}
