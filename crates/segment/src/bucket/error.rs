//! The object store's errors, by what the caller does next.

use std::error::Error;
use std::io;

use crate::FormatError;

/// Longest text taken from a store's error: some answer with a page of XML.
const MAX_TEXT_LEN: usize = 600;

/// Why the object store did not do it, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such object. A reader asks where the data is now.
    #[error("no object {0}")]
    NotFound(String),
    /// The name is taken by something else: use another.
    #[error("object {0} exists already")]
    Exists(String),
    /// Throttled, slow, failing or gone, for the whole of the retry budget. Try again later; nothing is lost. The outcome of
    /// a write is unknown: it may have happened, or happen yet, so its name must not be used again.
    #[error("object store unavailable: {0}")]
    Unavailable(String),
    /// Wrong bucket, credentials, rights or settings: tell the operator. Trying again does not help until one is changed.
    #[error("object store refused: {0}")]
    Refused(String),
    /// The object is there and is not what was written. From a cache: read again. Otherwise tell the operator.
    #[error("corrupt object {key}: {why}")]
    Corrupt { key: String, why: String },
}

impl StoreError {
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The object at `key` was read and `why` is what is wrong with it. One of a newer format is not damaged: passing it
    /// over as if it were would lose what it holds.
    pub fn unreadable(key: &str, why: &FormatError) -> Self {
        match why {
            FormatError::Version { .. } => Self::Refused(format!("{key}: {why}")),
            _ => Self::Corrupt { key: key.to_owned(), why: why.to_string() },
        }
    }
}

/// The one table from the library's errors to ours.
///
/// The library does not export the type that holds the HTTP status, so that is read from the message. A test against a
/// server that answers with each status guards this.
pub(super) fn classify(url: &str, key: &str, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    let text = describe(&error);
    let refused = |text: &str| StoreError::Refused(format!("{url}: {text}"));
    // As S3, Azure and Google say it.
    if ["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"].iter().any(|said| text.contains(said)) {
        return refused("the bucket does not exist");
    }
    match error {
        E::NotFound { .. } => StoreError::NotFound(key.to_owned()),
        E::AlreadyExists { .. } | E::Precondition { .. } => StoreError::Exists(key.to_owned()),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => refused(&text),
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::UnknownConfigurationKey { .. }
        | E::NotModified { .. } => refused(&text),
        _ if is_out_of_range(&text) => StoreError::Corrupt { key: key.to_owned(), why: text },
        other if is_refusal(&text, &other) => refused(&text),
        _ => StoreError::Unavailable(format!("{url}/{key}: {text}")),
    }
}

/// The object is shorter than the range that was asked for.
fn is_out_of_range(text: &str) -> bool {
    status(text) == Some(416) || text.contains("Wanted range starting at")
}

fn is_refusal(text: &str, error: &(dyn Error + 'static)) -> bool {
    // Codes that S3 sends with a 400 though another try may succeed.
    const TRANSIENT: [&str; 4] = ["RequestTimeout", "ExpiredToken", "RequestTimeTooSkewed", "IncompleteBody"];
    match status(text) {
        Some(408 | 425 | 429) => false,
        Some(300..=499 | 501) => !TRANSIENT.iter().any(|code| text.contains(code)),
        Some(_) => false,
        None => {
            let wrong_settings = ["incorrectly configured region", "URL scheme is not allowed", "builder error"];
            wrong_settings.iter().any(|phrase| text.contains(phrase)) || is_io_refusal(error)
        }
    }
}

fn is_io_refusal(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind as K;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(io.kind(), K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory);
        }
        next = error.source();
    }
    false
}

/// The HTTP status in an error's message.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The error and its causes on one line, each said once.
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_TEXT_LEN {
        line.truncate(line.floor_char_boundary(MAX_TEXT_LEN));
        line.push('…');
    }
    line
}
