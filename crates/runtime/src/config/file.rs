//! The configuration file: TOML, with every key known.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::keys::{Keys, Known};

#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    /// Reads a file and refuses one with a key that the configuration does not have.
    pub(super) fn read(path: &Path, keys: &Keys<'_>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let file = Self { path: path.to_owned(), text };
        let table = DeTable::parse(&file.text)
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), reason: error.to_string() })?;
        file.check(table.get_ref(), keys, &mut Vec::new())?;
        Ok(file)
    }

    fn check<'t>(&self, table: &'t DeTable<'_>, keys: &Keys<'_>, path: &mut Vec<&'t str>) -> Result<(), ConfigError> {
        for (name, value) in table {
            path.push(name.get_ref());
            match (keys.at(path.iter().copied()), value.get_ref()) {
                (Known::Nothing, _) => {
                    let key = path.join(".");
                    let place = Place::File { path: self.path.clone(), line: self.line(name) };
                    return Err(ConfigError::UnknownKey { suggestion: keys.nearest(&key), place, key });
                }
                (Known::Section(_), DeValue::Table(inner)) => self.check(inner, keys, path)?,
                (Known::Section(_) | Known::Leaf(_) | Known::Open, _) => {}
            }
            path.pop();
        }
        Ok(())
    }

    /// The line, counted from 1, that sets a key or, for part of a value, the value.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let parsed = DeTable::parse(&self.text).ok()?;
        let mut table = parsed.get_ref();
        let mut found = None;
        for segment in key.split('.') {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == segment) else { break };
            found = Some(self.line(name));
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        found
    }

    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        let before = self.text.get(..spanned.span().start).unwrap_or_default();
        before.matches('\n').count() + 1
    }
}
