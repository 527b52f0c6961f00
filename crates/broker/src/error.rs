//! Why a broker cannot start. What it answers to a gateway is [`tidemark_model::BrokerError`].

/// Tell the operator and exit.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`cache_dir` {dir:?} cannot hold the cache of cold reads: {reason}")]
    Cache { dir: std::path::PathBuf, reason: String },
}
