//! Finding out at start, not at the first flush, that the bucket, the credentials or the rights are wrong.

use bytes::Bytes;
use object_store::PutMode;

use super::retry::Attempts;
use super::{Bucket, StoreError};
use crate::metrics::Operation;

/// Where probes are written. They are deleted again; one that a crash left is 8 bytes of harmless litter.
const PROBES: &str = "probes";
const CONTENT: &[u8] = b"tidemark";

/// What a service needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read and list.
    Read,
    /// To write, read back, list and delete; and that the store refuses a second write under one name.
    Write,
}

impl Bucket {
    /// Tries what a service will need. [`StoreError::Refused`] says to the operator what is wrong;
    /// [`StoreError::Unavailable`] may pass, and a service that can do without the object store for now starts.
    pub async fn check(&self, access: Access) -> Result<(), StoreError> {
        self.list(PROBES).await?;
        if access == Access::Read {
            return Ok(());
        }
        let key = format!("{PROBES}/{:016x}", self.inner.entropy.next_u64());
        self.put_new(&key, vec![Bytes::from_static(CONTENT)]).await?;
        let result = self.check_object(&key).await;
        self.delete(&[key]).await?;
        result
    }

    async fn check_object(&self, key: &str) -> Result<(), StoreError> {
        if self.get(key, CONTENT.len() as u64).await? != CONTENT {
            return Err(StoreError::Corrupt { key: key.to_owned(), why: "it reads other than it was written".into() });
        }
        let path = self.path(key)?;
        let put = || self.inner.store.put_opts(&path, Bytes::from_static(CONTENT).into(), PutMode::Create.into());
        match Attempts::new(self, Operation::Put, key).until_done(CONTENT.len() as u64, put).await {
            Err(StoreError::Exists(_)) => Ok(()),
            Ok(_) => Err(StoreError::Refused(format!(
                "{}: it overwrites objects although told not to (If-None-Match), which would lose data",
                self.url()
            ))),
            Err(error) => Err(error),
        }
    }
}
