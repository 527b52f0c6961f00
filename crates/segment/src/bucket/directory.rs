//! A local directory, into which large objects are written past the page cache.
//!
//! Through it a segment costs several times the CPU: the kernel's copy was half of what a standalone under load took.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rustix::fs::{FallocateFlags, OFlags};

use super::open::create_durably;

/// Objects of fewer bytes are left to the library.
const LEAST_DIRECT: usize = 1 << 20;
/// What direct I/O asks of memory, lengths and positions, on every file system and disk that we know.
const ALIGNMENT: usize = 4096;
/// Bytes of one write.
const BUFFER: usize = 1 << 20;

/// The library's directory, every object fsynced, but for how large objects get there.
#[derive(Debug)]
pub(super) struct Directory {
    files: LocalFileSystem,
}

impl Directory {
    pub(super) fn new(dir: &FilePath) -> Result<Self> {
        Ok(Self { files: LocalFileSystem::new_with_prefix(dir)?.with_fsync(true) })
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if payload.content_length() < LEAST_DIRECT || options.mode != PutMode::Create {
            return self.files.put_opts(location, payload, options).await;
        }
        let path = self.files.path_to_filesystem(location)?;
        let content = payload.clone();
        let written = tokio::task::spawn_blocking(move || create(&path, &content)).await;
        match written.map_err(|source| Error::JoinError { source })? {
            Ok(()) => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Err(NotCreated::NotDirect) => self.files.put_opts(location, payload, options).await,
            Err(NotCreated::Exists(source)) => {
                Err(Error::AlreadyExists { path: location.to_string(), source: source.into() })
            }
            Err(NotCreated::Failed(source)) => Err(Error::Generic { store: "directory", source: source.into() }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// Why there is no object.
enum NotCreated {
    /// The file system has no direct I/O.
    NotDirect,
    Exists(io::Error),
    Failed(io::Error),
}

impl From<io::Error> for NotCreated {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput => Self::NotDirect,
            _ => Self::Failed(error),
        }
    }
}

/// Writes a file that is not there yet, durable when this returns, under a name that says that it is not finished until it
/// is whole.
fn create(path: &FilePath, content: &PutPayload) -> Result<(), NotCreated> {
    let parent = path.parent().unwrap_or(FilePath::new("."));
    let unfinished = Unfinished::beside(path, parent)?;
    let mut file =
        OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(&unfinished.0)?;
    write(&mut file, content)?;
    file.sync_all()?;
    match fs::hard_link(&unfinished.0, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NotCreated::Exists(error)),
        linked => linked?,
    }
    Ok(File::open(parent)?.sync_all()?)
}

fn write(file: &mut File, content: &PutPayload) -> io::Result<()> {
    let length = content.content_length();
    match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, length.next_multiple_of(ALIGNMENT) as u64) {
        // The file system cannot reserve: a full disk then shows at a write.
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        reserved => reserved?,
    }
    let mut memory = vec![0; BUFFER + ALIGNMENT];
    let begin = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let buffer = &mut memory[begin..begin + BUFFER];
    let mut filled = 0;
    for mut chunk in content.iter().map(|chunk| &chunk[..]) {
        while !chunk.is_empty() {
            let (now, later) = chunk.split_at(chunk.len().min(BUFFER - filled));
            buffer[filled..filled + now.len()].copy_from_slice(now);
            (filled, chunk) = (filled + now.len(), later);
            if filled == BUFFER {
                file.write_all(buffer)?;
                filled = 0;
            }
        }
    }
    // What it had before goes behind the end.
    file.write_all(&buffer[..filled.next_multiple_of(ALIGNMENT)])?;
    file.set_len(length as u64)
}

/// A file that is removed with this. Its name is what [`Bucket::remove_unfinished`](super::Bucket::remove_unfinished) looks
/// for, and the library's own.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &FilePath, parent: &FilePath) -> io::Result<Self> {
        let mut number = 1_u32;
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("#{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&name) {
                Ok(_) => return Ok(Self(name.into())),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !parent.is_dir() => create_durably(parent)?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::ObjectStoreExt as _;

    use super::*;

    fn names(dir: &FilePath) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn objects_of_all_lengths_come_back_whatever_their_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path()).unwrap();
        for len in
            [LEAST_DIRECT - 1, LEAST_DIRECT, LEAST_DIRECT + 1, BUFFER + ALIGNMENT, 3 * BUFFER, 3 * BUFFER + 4_097]
        {
            for chunk in [1_000, ALIGNMENT, BUFFER, usize::MAX] {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 / 7) as u8).collect();
                let payload: PutPayload = bytes.chunks(chunk.min(len)).map(Bytes::copy_from_slice).collect();
                let path = Path::from(format!("a/b{chunk}/{len}"));
                store.put_opts(&path, payload, PutMode::Create.into()).await.unwrap();
                assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == bytes, "{len} bytes of {chunk}");
            }
        }
        let there = names(&dir.path().join("a/b1000"));
        assert!(there.len() == 6 && !there.iter().any(|name| name.contains('#')), "{there:?}");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path()).unwrap();
        let path = Path::from("a");
        let put = |byte| store.put_opts(&path, PutPayload::from(vec![byte; LEAST_DIRECT]), PutMode::Create.into());
        // What a crash left is not taken for an object, and not written over.
        fs::write(dir.path().join("a#1"), "left").unwrap();
        put(1).await.unwrap();
        assert!(matches!(put(2).await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap()[0], 1);
        assert_eq!(
            (names(dir.path()), fs::read(dir.path().join("a#1")).unwrap()),
            (vec!["a".into(), "a#1".into()], b"left".to_vec())
        );
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path()).unwrap();
        fs::write(dir.path().join("file"), "in the way").unwrap();
        let payload = PutPayload::from(vec![1; LEAST_DIRECT]);
        let failed = store.put_opts(&"file/a".into(), payload, PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(failed, Error::Generic { .. }), "{failed}");
        assert_eq!(names(dir.path()), ["file"]);
    }
}
