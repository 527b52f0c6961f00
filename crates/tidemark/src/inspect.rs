//! `tidemark storage inspect`: fetches what is to be shown.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_runtime::seams::OsEntropy;
use tidemark_segment::Bucket;

/// Longest object or file that is read into memory.
const MAX_LEN: u64 = 4 << 30;

/// The text that describes a file, or an object by its URL.
pub fn shown(what: &str, all: bool) -> Result<String, String> {
    let bytes = if what.contains("://") { object(what)? } else { file(what)? };
    tidemark_storage::inspect::inspect(&bytes, all)
}

fn file(path: &str) -> Result<Bytes, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_LEN {
        return Err(format!("it has {size} bytes, and at most {MAX_LEN} are read"));
    }
    std::fs::read(path).map(Bytes::from).map_err(|error| error.to_string())
}

/// The last part of the URL is the key, the rest the bucket's URL.
fn object(url: &str) -> Result<Bytes, String> {
    let (bucket, key) = url.rsplit_once('/').ok_or("no object in the URL")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let bucket = Bucket::open(bucket, std::env::vars(), Arc::new(OsEntropy)).map_err(|e| e.to_string())?;
        bucket.get(key, MAX_LEN).await.map_err(|error| error.to_string())
    })
}
