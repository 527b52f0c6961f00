//! Why a configuration cannot be used. The caller prints it and exits: a person has to change something.

use std::fmt;
use std::path::PathBuf;

use super::{shown, variable};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", shown(.path))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not TOML: {reason}", shown(.path))]
    Syntax { path: PathBuf, reason: String },
    #[error("unknown key `{key}` {place}{}", Suggestion(.place, .suggestion.as_deref()))]
    UnknownKey { key: String, place: Place, suggestion: Option<String> },
    #[error("`{key}` {place}: {reason}")]
    Value { key: String, place: Place, reason: String },
    #[error("the configuration cannot be printed as TOML: {reason}")]
    Unprintable { reason: String },
}

/// Where a key was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File {
        path: PathBuf,
        line: usize,
    },
    Variable(String),
    Flag(String),
    /// Nowhere: it has its default, or is missing.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "in {}, line {line}", shown(path)),
            Self::Variable(name) => write!(f, "in the environment variable {name}"),
            Self::Flag(name) => write!(f, "in the flag {name}"),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// What was probably meant, spelled as in the place where it was meant.
struct Suggestion<'a>(&'a Place, Option<&'a str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.1, self.0) {
            (None, _) => f.write_str("; --print-config shows all there are"),
            (Some(key), Place::Variable(_)) => write!(f, "; did you mean {}?", variable(key)),
            (Some(key), _) => write!(f, "; did you mean `{key}`?"),
        }
    }
}
