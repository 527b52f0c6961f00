//! What happens in the shop, and where it is told.

use anyhow::{Context as _, Result};

pub(crate) const PARTITIONS: i32 = 6;

/// From this amount on an order is worth an alert, in cents.
const LARGE: u64 = 90_000;

/// One run of the example on one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) bootstrap: String,
    pub(crate) run: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Click,
    Search,
    Order,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Click, Self::Search, Self::Order];

    /// What its topic's name begins with.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Click => "clicks",
            Self::Search => "searches",
            Self::Order => "orders",
        }
    }
}

impl Shop {
    pub(crate) fn new(bootstrap: &str, run: i64) -> Self {
        Self { bootstrap: bootstrap.to_owned(), run }
    }

    pub(crate) fn topic(&self, kind: Kind) -> String {
        format!("{}-{}", kind.plural(), self.run)
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        Kind::ALL.map(|kind| self.topic(kind)).into()
    }

    pub(crate) fn group(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }
}

/// `id kind visitor cents`, at the time of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) visitor: String,
    pub(crate) cents: u64,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
}

impl Event {
    pub(crate) fn text(&self) -> String {
        format!("{} {} {} {}", self.id, self.kind.plural(), self.visitor, self.cents)
    }

    pub(crate) fn parse(text: &str, at: i64) -> Result<Self> {
        let mut words = text.split(' ');
        let mut word = || words.next().with_context(|| format!("no event: {text}"));
        let id = word()?.to_owned();
        let name = word()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == name).context("an unknown kind")?;
        Ok(Self { id, kind, visitor: word()?.to_owned(), cents: word()?.parse()?, at })
    }

    pub(crate) fn is_order(&self) -> bool {
        self.kind == Kind::Order
    }

    pub(crate) fn is_large_order(&self) -> bool {
        self.is_order() && self.cents >= LARGE
    }

    pub(crate) fn minute(&self) -> i64 {
        self.at / 60_000
    }
}

pub(crate) fn millis_now() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64)
}
