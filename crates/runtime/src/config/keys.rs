//! Which keys a configuration has, and which of them was probably meant.

use figment::value::{Dict, Empty, Value};

/// The keys of a configuration, from its serialized default.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    defaults: &'a Dict,
}

/// What the configuration has at a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// A section with keys of its own.
    Section(&'a Dict),
    /// A value, with its default.
    Leaf(&'a Value),
    /// Beneath something whose keys are the user's, or that has no default to tell its keys by.
    Open,
    Nothing,
}

impl<'a> Keys<'a> {
    pub(super) fn new(defaults: &'a Dict) -> Self {
        Self { defaults }
    }

    pub(super) fn at<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Known<'a> {
        let mut here = Known::Section(self.defaults);
        for segment in path {
            here = match here {
                Known::Section(dict) => match dict.get(segment) {
                    Some(Value::Dict(_, inner)) if !inner.is_empty() => Known::Section(inner),
                    Some(leaf) => Known::Leaf(leaf),
                    None => return Known::Nothing,
                },
                Known::Leaf(Value::Dict(..) | Value::Empty(_, Empty::None | Empty::Unit)) | Known::Open => Known::Open,
                Known::Leaf(_) | Known::Nothing => return Known::Nothing,
            };
        }
        here
    }

    /// The key whose spelling is nearest, when it is near, else one of the same name in another section.
    pub(super) fn nearest(&self, key: &str) -> Option<String> {
        let all = self.all();
        let distances = all.iter().map(|known| (strsim::damerau_levenshtein(known, key), known));
        let (distance, nearest) = distances.min()?;
        // A third of the letters wrong is still a slip; more is another word.
        if distance <= (key.len() / 3).max(1) {
            return Some(nearest.clone());
        }
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        all.iter().find(|known| last(known) == last(key)).cloned()
    }

    fn all(&self) -> Vec<String> {
        let mut paths = Vec::new();
        collect("", self.defaults, &mut paths);
        paths
    }
}

fn collect(prefix: &str, dict: &Dict, into: &mut Vec<String>) {
    for (key, value) in dict {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if let Value::Dict(_, inner) = value {
            collect(&path, inner, into);
        }
        into.push(path);
    }
}
