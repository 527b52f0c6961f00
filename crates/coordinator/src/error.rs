//! Why a coordinator cannot run, and what its callers are told of the store's errors.

use tidemark_model::CoordinatorError;

use crate::records::BadValue;
use crate::store::StoreError;

/// Why a coordinator stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration names another cluster than the store is of: the operator corrects one of them.
    #[error("`cluster_id` is {configured}, but the metadata store is of cluster {stored}")]
    OtherCluster { configured: String, stored: String },
    /// `metadata` is not an address of a store.
    #[error("`metadata` is {url}: {reason}")]
    BadMetadata { url: String, reason: String },
    /// Another process runs under this coordinator's name: this one must not go on.
    #[error("this coordinator was replaced: {0}")]
    Replaced(String),
    /// The bucket is another's, or cannot be used: the operator has to act.
    #[error("{0}")]
    Bucket(String),
    /// The store cannot be used at all: damaged, in use, of a newer version.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The one table from the store's errors to what callers are told.
impl From<StoreError> for CoordinatorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
            StoreError::LeaseLost(_) | StoreError::Compacted => Self::Unavailable(error.to_string()),
            StoreError::TooLarge(_) => Self::InvalidRequest(error.to_string()),
            StoreError::Failed(_) => {
                tracing::error!(%error, "the metadata store failed a request");
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// A record that this version cannot read is left alone.
pub(crate) fn unreadable(key: &str, error: BadValue) -> CoordinatorError {
    tracing::error!(key, %error, "cannot read a record");
    CoordinatorError::Unavailable(format!("{key}: {error}"))
}

/// A write lost the race against others again and again.
pub(crate) fn lost_races(what: &str) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("{what}: others write the same, try again"))
}
