//! Whose a bucket is.
//!
//! A cluster claims its bucket, or the prefix in it, with its first start, by an object that only one can create. A rebuild
//! of the cluster's metadata claims it anew under the next generation, and the highest generation holds: what is left of the
//! cluster from before finds that it has lost the bucket when it next looks, and it looks before every write and delete.
//! Nothing is ever replaced, so that a store which only knows how to create an object does.
//!
//! The object is text, of these lines, each with a line feed:
//!
//! ```text
//! tidemark claim 1
//! cluster = the cluster's id
//! generation = decimal
//! id = 16 hexadecimal digits
//! crc32c = 8 hexadecimal digits, of the lines before
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::cluster::Claim;
use tokio::sync::watch;

use crate::names::{self, ClaimKey};
use crate::{Bucket, FormatError, StoreError};

const WHAT: &str = "claim";
const FIRST_LINE: &str = "tidemark claim ";
const VERSION: u16 = 1;
/// Longest claim that is read: a cluster's id has 128 bytes at most.
const MAX_LEN: u64 = 1024;
/// How often claims are listed again because another came in between.
const LOOKS: usize = 5;

/// Who holds a bucket, as the bucket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub cluster: String,
    pub claim: Claim,
}

/// A bucket's watch over the claim by which it is written to.
pub(crate) struct Guard {
    holder: Holder,
    lost: watch::Sender<Option<String>>,
}

impl Holder {
    /// Who holds the bucket now; nobody when it was never claimed.
    pub async fn of(bucket: &Bucket) -> Result<Option<Self>, StoreError> {
        let objects = bucket.list(names::CLAIMS).await?;
        let Some(object) = objects.iter().rfind(|object| ClaimKey::parse(&object.key).is_some()) else {
            return Ok(None);
        };
        let bytes = bucket.get(&object.key, MAX_LEN).await?;
        Self::parse(&bytes).map(Some).map_err(|why| StoreError::unreadable(&object.key, &why))
    }

    /// Makes this the holder, or finds that it is. [`StoreError::Refused`] says who is instead, and what to do.
    ///
    /// Generation 1 needs a bucket that nobody claimed; a later one that the generation before it holds the bucket, by the same
    /// cluster.
    pub async fn take(&self, bucket: &Bucket) -> Result<(), StoreError> {
        for _ in 0..LOOKS {
            let before = Self::of(bucket).await?;
            let mine = match &before {
                Some(holder) if holder == self => return Ok(()),
                Some(Self { cluster, claim }) => {
                    *cluster == self.cluster && claim.generation.checked_add(1) == Some(self.claim.generation)
                }
                None => self.claim.generation == 1,
            };
            if !mine {
                return Err(self.refused(bucket, before.as_ref()));
            }
            let key = ClaimKey { generation: self.claim.generation }.to_string();
            match bucket.put_new(&key, vec![self.encode()]).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(format!("{}: others claim it meanwhile", bucket.url())))
    }

    /// Whether this is the holder: [`StoreError::Refused`] when another is, [`StoreError::NotFound`] when nobody is yet.
    pub async fn check(&self, bucket: &Bucket) -> Result<(), StoreError> {
        match Self::of(bucket).await? {
            Some(holder) if holder == *self => Ok(()),
            Some(holder) => Err(self.refused(bucket, Some(&holder))),
            None => Err(StoreError::NotFound(ClaimKey { generation: self.claim.generation }.to_string())),
        }
    }

    fn refused(&self, bucket: &Bucket, holder: Option<&Self>) -> StoreError {
        let url = bucket.url();
        let why = match holder {
            None => {
                format!("the bucket {url} has lost its claim {self}: nobody may write to it before that is explained")
            }
            Some(holder) if holder.cluster != self.cluster => format!(
                "the bucket {url} belongs to {holder}, and this is {self}: give each cluster a bucket or a prefix of its own in \
                 `object_store`. To bring {} back on a new metadata store, use `tidemark storage rebuild`",
                holder.cluster
            ),
            Some(holder) if holder.claim.generation > self.claim.generation => format!(
                "the bucket {url} now belongs to {holder}, which was rebuilt from it, and this is {self}, from before: stop it, \
                 and start it on the metadata store of the rebuilt cluster"
            ),
            Some(holder) => format!(
                "the bucket {url} belongs to {holder}, and the metadata store is that of {self}: it was lost or put back to an \
                 earlier time. Use `tidemark storage rebuild` to make another from the bucket"
            ),
        };
        StoreError::Refused(why)
    }

    /// The object's bytes.
    pub fn encode(&self) -> Bytes {
        let Self { cluster, claim: Claim { generation, id } } = self;
        let lines = format!("{FIRST_LINE}{VERSION}\ncluster = {cluster}\ngeneration = {generation}\nid = {id:016x}\n");
        let crc = crc32c::crc32c(lines.as_bytes());
        format!("{lines}crc32c = {crc:08x}\n").into()
    }

    /// Parses a whole object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Magic(WHAT))?;
        let version = text.strip_prefix(FIRST_LINE).and_then(|rest| rest.split('\n').next());
        let version: u16 = version.and_then(|version| version.parse().ok()).ok_or(FormatError::Magic(WHAT))?;
        if version != VERSION {
            return Err(FormatError::Version { what: WHAT, found: version, known: VERSION });
        }
        let parsed = (|| {
            let mut lines = text.strip_suffix('\n')?.split('\n').skip(1);
            let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(" = ");
            let cluster = value("cluster")?.to_owned();
            let generation = value("generation")?.parse().ok()?;
            let id = u64::from_str_radix(value("id")?, 16).ok()?;
            Some(Self { cluster, claim: Claim { generation, id } })
        })();
        // Written again it has to be the same bytes, of which the checksum is a part.
        parsed.filter(|holder| holder.encode() == bytes).ok_or(FormatError::Checksum(WHAT))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, claim: Claim { generation, id } } = self;
        write!(f, "cluster {cluster} (generation {generation}, claim {id:016x})")
    }
}

impl Guard {
    pub(crate) fn new(holder: Holder) -> Arc<Self> {
        Arc::new(Self { holder, lost: watch::Sender::new(None) })
    }

    /// Refuses when another generation has claimed the bucket. One request that is billed as a read.
    ///
    /// A look and the write after it are two things: what was under way when the other claimed the bucket may still happen.
    /// It does no harm, because a rebuilt cluster writes other names, and whoever rebuilds stops the old cluster first.
    pub(crate) async fn check(&self, bucket: &Bucket) -> Result<(), StoreError> {
        let Holder { claim, .. } = &self.holder;
        if let Some(why) = &*self.lost.borrow() {
            return Err(StoreError::Refused(why.clone()));
        }
        let Some(generation) = claim.generation.checked_add(1) else { return Ok(()) };
        match bucket.head(&ClaimKey { generation }.to_string()).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let error = match self.holder.check(bucket).await {
                    Err(error) => error,
                    Ok(()) => return Ok(()),
                };
                if let StoreError::Refused(why) = &error {
                    self.lost.send_replace(Some(why.clone()));
                }
                Err(error)
            }
        }
    }

    /// Returns when the bucket was lost, with the reason.
    pub(crate) async fn lost(&self) -> StoreError {
        let mut lost = self.lost.subscribe();
        let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        StoreError::Refused(why.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
