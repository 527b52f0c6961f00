//! Keys set by environment variables and flags: text, read as what the key's default is.

use figment::value::{Dict, Value};

use super::PREFIX;
use super::error::{ConfigError, Place};
use super::keys::{Keys, Known};

/// Variables with our prefix that say something to tests, benchmarks and xtask, and nothing to a service.
const NOT_CONFIG: [&str; 3] = ["E2E_", "TEST_", "BENCH_"];

/// Names of other programs for tests and xtask: `TIDEMARK_ETCD_BIN`.
const NOT_CONFIG_SUFFIX: &str = "_BIN";

/// The settings of the environment and the flags, in the order in which later ones win.
#[derive(Debug)]
pub(super) struct Settings(Vec<Setting>);

#[derive(Debug)]
struct Setting {
    path: Vec<String>,
    text: String,
    value: Value,
    place: Place,
}

impl Settings {
    pub(super) fn gather(
        mut env: Vec<(String, String)>,
        flags: Vec<(&'static str, String)>,
        keys: &Keys<'_>,
    ) -> Result<Self, ConfigError> {
        env.sort();
        let variables = env.into_iter().filter_map(|(name, text)| {
            let key = name.strip_prefix(PREFIX).filter(|key| is_config(key))?;
            let path = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
            Some((path, text, Place::Variable(name)))
        });
        let flags = flags.into_iter().map(|(key, text)| {
            let path = key.split('.').map(str::to_owned).collect();
            (path, text, Place::Flag(format!("--{}", key.replace(['.', '_'], "-"))))
        });
        let settings = variables.chain(flags).map(|(path, text, place)| Setting::new(path, text, place, keys));
        settings.collect::<Result<_, _>>().map(Self)
    }

    /// As one table, for figment.
    pub(super) fn nested(&self) -> Dict {
        let mut root = Dict::new();
        for setting in &self.0 {
            insert(&mut root, &setting.path, setting.value.clone());
        }
        root
    }

    /// Leaves the settings of a key as text where they were read as something else; says whether there was one.
    pub(super) fn take_as_text(&mut self, path: &[String]) -> bool {
        let mut changed = false;
        for setting in self.0.iter_mut().filter(|setting| setting.path == path) {
            if !matches!(setting.value, Value::String(..)) {
                setting.value = Value::from(setting.text.clone());
                changed = true;
            }
        }
        changed
    }

    /// The last setting that is the key, or has it within.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        let path: Vec<&str> = key.split('.').collect();
        let holds = |setting: &&Setting| {
            path.len() >= setting.path.len() && path.iter().zip(&setting.path).all(|(a, b)| a == b)
        };
        self.0.iter().rev().find(holds).map(|setting| setting.place.clone())
    }
}

impl Setting {
    fn new(path: Vec<String>, text: String, place: Place, keys: &Keys<'_>) -> Result<Self, ConfigError> {
        let key = path.join(".");
        let value = match keys.at(path.iter().map(String::as_str)) {
            Known::Nothing => return Err(ConfigError::UnknownKey { suggestion: keys.nearest(&key), place, key }),
            Known::Section(_) => {
                let reason = "a section, not a value: name a key within it".to_owned();
                return Err(ConfigError::Value { key, place, reason });
            }
            Known::Leaf(Value::String(..)) => Value::from(text.clone()),
            Known::Leaf(Value::Array(..)) => list(&text),
            Known::Leaf(_) | Known::Open => parse(&text),
        };
        Ok(Self { path, text, value, place })
    }
}

fn is_config(key: &str) -> bool {
    !NOT_CONFIG.iter().any(|other| key.starts_with(other)) && !key.ends_with(NOT_CONFIG_SUFFIX)
}

/// A list is written as in TOML, or plainly with commas between its members.
fn list(text: &str) -> Value {
    if text.trim_start().starts_with('[') {
        return parse(text);
    }
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    Value::from(members.map(str::to_owned).collect::<Vec<String>>())
}

fn parse(text: &str) -> Value {
    match text.parse() {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(entry, Value::Dict(..)) {
                *entry = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}
