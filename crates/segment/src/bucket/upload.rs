//! Large objects, uploaded in parts that are tried again one by one.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;

use super::retry::Attempts;
use super::{Bucket, StoreError, Stored};
use crate::metrics::Operation;

/// Parts of one object in flight at once.
const PARALLEL_PARTS: usize = 4;

/// When and how objects are cut into parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Objects up to this many bytes are one request.
    pub(super) single_put: u64,
    /// Bytes of each part but the last.
    pub(super) part: usize,
}

impl Default for Limits {
    /// A part is billed as a PUT, and only a single PUT is conditional on the name being free: so a segment of the
    /// usual 64 MiB is one request, and what is cut is cut into large pieces.
    fn default() -> Self {
        Self { single_put: 128 * 1024 * 1024, part: 64 * 1024 * 1024 }
    }
}

impl Bucket {
    /// The same bucket with other limits, so that a test need not move 128 MiB.
    #[cfg(test)]
    pub(super) fn with_upload_limits(mut self, single_put: u64, part: usize) -> Self {
        self.upload = Limits { single_put, part };
        self
    }

    /// Stores an object in parts. The name is looked up first: S3's multipart upload would replace what it names.
    pub(super) async fn upload(
        &self,
        store: &Arc<dyn MultipartStore>,
        key: &str,
        chunks: Vec<Bytes>,
        len: u64,
    ) -> Result<(), StoreError> {
        match self.head(key).await {
            Err(StoreError::NotFound(_)) => {}
            Ok(_) => return Err(StoreError::Exists(key.to_owned())),
            Err(error) => return Err(error),
        }
        let path = self.path(key)?;
        let create = || store.create_multipart(&path);
        let id = Attempts::new(self, Operation::CreateMultipart, key).until_done(0, create).await?;
        let result = self.upload_parts(store, key, &path, &id, &chunks, len).await;
        if result.is_err() {
            // One attempt, whose outcome nobody waits for: a lifecycle rule of the bucket clears what is left behind.
            let abort = store.abort_multipart(&path, &id);
            let _ = Attempts::new(self, Operation::AbortMultipart, key).once(0, abort).await;
        }
        result
    }

    async fn upload_parts(
        &self,
        store: &Arc<dyn MultipartStore>,
        key: &str,
        path: &Path,
        id: &String,
        chunks: &[Bytes],
        len: u64,
    ) -> Result<(), StoreError> {
        let uploads = parts(chunks, self.upload.part).into_iter().enumerate().map(|(index, part)| {
            let bytes = part.content_length() as u64;
            let put = move || store.put_part(path, id, index, part.clone());
            Attempts::new(self, Operation::UploadPart, key).until_done(bytes, put)
        });
        let uploaded: Vec<PartId> = stream::iter(uploads).buffered(PARALLEL_PARTS).try_collect().await?;

        let mut attempts = Attempts::new(self, Operation::CompleteMultipart, key);
        let mut outcome_unknown = false;
        loop {
            let complete = store.complete_multipart(path, id, uploaded.clone());
            let Err(error) = attempts.once(0, complete).await else { return Ok(()) };
            // An attempt whose answer was lost may have completed it: then the upload is gone and the object is there.
            if outcome_unknown {
                match self.stored(key, chunks, len).await? {
                    Stored::This => return Ok(()),
                    Stored::Another => return Err(StoreError::Exists(key.to_owned())),
                    Stored::Nothing => {}
                }
            }
            if let StoreError::NotFound(_) = error {
                return Err(StoreError::Unavailable(format!("{}/{key}: its upload is gone", self.url())));
            }
            outcome_unknown |= error.is_retriable();
            attempts.pause(error).await?;
        }
    }
}

/// Cuts the chunks into parts of exactly `part_len` bytes (the last one may have fewer), sharing their memory.
fn parts(chunks: &[Bytes], part_len: usize) -> Vec<PutPayload> {
    let mut parts = Vec::new();
    let mut part: Vec<Bytes> = Vec::new();
    let mut room = part_len;
    for chunk in chunks {
        let mut chunk = chunk.clone();
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(room));
            room -= piece.len();
            part.push(piece);
            if room == 0 {
                parts.push(part.drain(..).collect());
                room = part_len;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part.into_iter().collect());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_equal_length_and_keep_every_byte() {
        let bytes: Vec<u8> = (0..=254).collect();
        let chunks: Vec<Bytes> = bytes.chunks(7).map(Bytes::copy_from_slice).collect();
        for part_len in [1, 6, 7, 8, 50, 254, 255, 256] {
            let parts = parts(&chunks, part_len);
            let (last, full) = parts.split_last().unwrap();
            assert!(full.iter().all(|part| part.content_length() == part_len));
            assert!((1..=part_len).contains(&last.content_length()));
            let again: Vec<u8> = parts.iter().flat_map(|part| part.iter().flatten().copied()).collect();
            assert_eq!(again, bytes);
        }
    }
}
