//! Every crate we build comes under a licence that `deny.toml` allows.

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use serde::Deserialize;

use crate::sh;

/// The part of `deny.toml` that we read; the rest is cargo-deny's.
#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

pub(super) fn check() -> Result<()> {
    let deny = std::fs::read_to_string(sh::root().join("deny.toml")).context("deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("deny.toml")?;
    let metadata = MetadataCommand::new().manifest_path(sh::root().join("Cargo.toml")).exec()?;
    let mut refused = Vec::new();
    for package in &metadata.packages {
        let expression = package.license.as_deref().unwrap_or("none given");
        if !allows(expression, &deny.licenses.allow) {
            refused.push(format!("{} {}: {expression}", package.name, package.version));
        }
    }
    if !refused.is_empty() {
        bail!("not allowed by deny.toml:\n  {}", refused.join("\n  "));
    }
    eprintln!("{} crates", metadata.packages.len());
    Ok(())
}

/// Whether an SPDX expression can be met with the allowed licences alone. `/` is how old crates write `OR`.
fn allows(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let result = parser.any();
    result && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn any(&mut self) -> bool {
        let mut result = self.every();
        while self.take("OR") {
            result |= self.every();
        }
        result
    }

    fn every(&mut self) -> bool {
        let mut result = self.one();
        while self.take("AND") {
            result &= self.one();
        }
        result
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let result = self.any();
            return self.take(")") && result;
        }
        let Some((licence, rest)) = self.words.split_first() else { return false };
        self.words = rest;
        let mut name = (*licence).to_owned();
        if self.take("WITH") {
            let Some((exception, rest)) = self.words.split_first() else { return false };
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        self.allowed.contains(&name)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::allows;

    fn with(expression: &str) -> bool {
        allows(expression, &["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned))
    }

    #[test]
    fn one_of_several_is_enough() {
        assert!(with("GPL-3.0 OR MIT"));
        assert!(with("MIT/Unlicense"));
        assert!(with("Apache-2.0 WITH LLVM-exception"));
        assert!(with("(MIT OR GPL-2.0) AND Apache-2.0"));
    }

    #[test]
    fn all_of_several_are_needed() {
        assert!(!with("MIT AND GPL-3.0"));
        assert!(!with("GPL-3.0"));
        assert!(!with("none given"));
        assert!(!with("(MIT OR GPL-2.0) AND BSD-3-Clause"));
        assert!(!with("(MIT"));
    }
}
