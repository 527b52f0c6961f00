//! Configuration: defaults, then a TOML file, then the environment, then flags. What nobody knows refuses to start.
//!
//! The type's default, serialized, says which keys there are. An empty table in it stands for one with keys of the
//! user's own, and a `None` for a value that has no default.

mod cli;
mod env;
mod error;
mod file;
pub mod health_check;
mod keys;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ConfigError, Place};

use env::Settings;
use file::File;
use keys::Keys;

/// What the names of all our environment variables start with.
const PREFIX: &str = "TIDEMARK_";

/// Where a configuration comes from, besides its defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment: every variable, ours and others.
    pub env: Vec<(String, String)>,
    /// Flags of the command line that stand for a key, with their values. They win.
    pub flags: Vec<(&'static str, String)>,
}

/// Reads the configuration of a service from `args` (the program's name first) and the environment.
///
/// `--version` and `--help` print and exit, as do `--print-config` (the configuration that results, as TOML) and
/// `--health URL` (exit code 0 when a GET answers 2xx, so that an image without other tools can check itself).
pub fn load<T>(service: &'static str, args: impl IntoIterator<Item = OsString>) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let flags = cli::parse(service, args);
    if let Some(url) = flags.health {
        std::process::exit(health_check::report(&url));
    }
    let config: T = Sources { file: flags.config, env: process_env(), flags: Vec::new() }.resolve()?;
    if flags.print_config {
        // Nobody is left to tell when standard output is gone.
        let _ = io::stdout().write_all(to_toml(&config)?.as_bytes());
        std::process::exit(0);
    }
    Ok(config)
}

/// The environment variables of this process that are text. Ours always are.
pub fn process_env() -> Vec<(String, String)> {
    let text =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.collect()
}

/// The environment variable that sets a key: `TIDEMARK_TELEMETRY__LOG` for `telemetry.log`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The configuration as a TOML file that gives the same.
pub fn to_toml(config: &impl Serialize) -> Result<String, ConfigError> {
    toml::to_string_pretty(config).map_err(|error| ConfigError::Unprintable { reason: error.to_string() })
}

impl Sources {
    /// Puts the sources together, each winning over those before it: defaults, file, environment, flags.
    pub fn resolve<T>(self) -> Result<T, ConfigError>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let defaults = Value::serialize(T::default())
            .ok()
            .and_then(Value::into_dict)
            .expect("a configuration type serializes to a table");
        let keys = Keys::new(&defaults);
        let file = self.file.as_deref().map(|path| File::read(path, &keys)).transpose()?;
        let mut settings = Settings::gather(self.env, self.flags, &keys)?;

        loop {
            let mut figment = Figment::from(Serialized::defaults(T::default()));
            if let Some(file) = &file {
                figment = figment.merge(Toml::string(&file.text));
            }
            match figment.merge(Serialized::globals(settings.nested())).extract() {
                Ok(config) => return Ok(config),
                // Whether a key without a default takes text that looks like a number, only its type knows.
                Err(error) if settings.take_as_text(&error.path) => {}
                Err(error) => return Err(explain(error, &settings, file.as_ref(), &keys)),
            }
        }
    }
}

/// Says where the value came from that figment refused, in the words of whoever has to change it.
fn explain(error: figment::Error, settings: &Settings, file: Option<&File>, keys: &Keys<'_>) -> ConfigError {
    let path = error.path.join(".");
    let place_of = |key: &str| {
        let of_file = |file: &File| file.line_of(key).map(|line| Place::File { path: file.path.clone(), line });
        settings.place_of(key).or_else(|| file.and_then(of_file)).unwrap_or(Place::Default)
    };
    if let figment::error::Kind::UnknownField(field, _) = &error.kind {
        let key =
            if path.is_empty() || error.path.last() == Some(field) { field.clone() } else { format!("{path}.{field}") };
        return ConfigError::UnknownKey { place: place_of(&key), suggestion: keys.nearest(&key), key };
    }
    ConfigError::Value { place: place_of(&path), key: path, reason: error.kind.to_string() }
}

/// The name of a file as people gave it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
