//! For tests and simulations: an object store with faults, and entropy from a seed.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tidemark_model::Entropy;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Put,
    Multipart,
    Get,
    Head,
    List,
    Delete,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out.
    None,
    /// It is carried out this much later.
    Delay(Duration),
    /// 503 SlowDown: it is not carried out.
    SlowDown,
    /// It is carried out and its answer is lost.
    LostAnswer,
    /// It is never answered, and not carried out.
    Hang,
    /// Half of the body arrives. Other requests than Get are carried out.
    Truncated,
    /// A byte of the body is another. Other requests than Get are carried out.
    BitFlip,
    /// A Put replaces an object of its name, whatever its condition says. Other requests are carried out.
    Unconditional,
}

/// Decides the fate of each request.
pub trait Faults: fmt::Debug + Send + Sync {
    fn next(&self, request: Request, key: &str) -> Fault;
}

/// These faults, one a request, then none.
#[derive(Debug, Default)]
pub struct Script(Mutex<VecDeque<Fault>>);

impl Script {
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(Mutex::new(faults.into_iter().collect()))
    }

    /// How many faults are still to come.
    pub fn left(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Faults for Script {
    fn next(&self, _: Request, _: &str) -> Fault {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }
}

/// A store whose requests meet faults. Multipart uploads work where `parts` is given.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    parts: Option<Arc<dyn MultipartStore>>,
    faults: Arc<dyn Faults>,
}

/// A small generator (splitmix64) for tests: the same seed gives the same numbers.
#[derive(Debug)]
pub struct Seeded(Mutex<u64>);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Faulty {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
        faults: Arc<dyn Faults>,
    ) -> Arc<Self> {
        Arc::new(Self { inner, parts, faults })
    }

    async fn meet<T>(
        &self,
        request: Request,
        key: &Path,
        carry_out: impl Future<Output = Result<T>> + Send,
    ) -> Result<(T, Fault)> {
        let fault = self.faults.next(request, key.as_ref());
        Ok((suffer(&fault, carry_out).await?, fault))
    }

    fn parts(&self) -> Result<&Arc<dyn MultipartStore>> {
        self.parts.as_ref().ok_or_else(|| Error::NotImplemented {
            operation: "multipart uploads".into(),
            implementer: self.to_string(),
        })
    }
}

async fn suffer<T>(fault: &Fault, carry_out: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match fault {
        Fault::SlowDown => return Err(slow_down()),
        Fault::Hang => std::future::pending().await,
        Fault::Delay(delay) => tokio::time::sleep(*delay).await,
        Fault::None | Fault::LostAnswer | Fault::Truncated | Fault::BitFlip | Fault::Unconditional => {}
    }
    let done = carry_out.await?;
    if *fault == Fault::LostAnswer {
        return Err(Error::Generic { store: "Faulty", source: "connection reset before the answer".into() });
    }
    Ok(done)
}

/// As the library words what S3 sends when it throttles.
fn slow_down() -> Error {
    let source = "Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>";
    Error::Generic { store: "Faulty", source: source.into() }
}

async fn damage(result: GetResult, fault: &Fault) -> Result<GetResult> {
    if !matches!(fault, Fault::Truncated | Fault::BitFlip) {
        return Ok(result);
    }
    let (meta, range, attributes, extensions) =
        (result.meta.clone(), result.range.clone(), result.attributes.clone(), result.extensions.clone());
    let mut body = Vec::from(result.bytes().await?);
    if *fault == Fault::Truncated {
        body.truncate(body.len() / 2);
    } else if let Some(byte) = body.first_mut() {
        *byte ^= 1;
    }
    let body = stream::once(async move { Ok(Bytes::from(body)) }).boxed();
    Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.faults.next(Request::Put, location.as_ref());
        let mode = if fault == Fault::Unconditional { PutMode::Overwrite } else { opts.mode.clone() };
        suffer(&fault, self.inner.put_opts(location, payload, PutOptions { mode, ..opts })).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = if options.head { Request::Head } else { Request::Get };
        let (result, fault) = self.meet(request, location, self.inner.get_opts(location, options)).await?;
        damage(result, &fault).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        Ok(self.meet(Request::Get, location, self.inner.get_ranges(location, ranges)).await?.0)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let faulty = Self { inner: self.inner.clone(), parts: None, faults: self.faults.clone() };
        let deleted = async move {
            let paths: Vec<Path> = locations.try_collect().await?;
            let first = paths.first().cloned().unwrap_or_default();
            let delete = faulty.inner.delete_stream(stream::iter(paths).map(Ok).boxed()).collect::<Vec<_>>().map(Ok);
            let (results, _) = faulty.meet(Request::Delete, &first, delete).await?;
            Ok::<_, Error>(stream::iter(results))
        };
        stream::once(deleted).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let faulty = Self { inner: self.inner.clone(), parts: None, faults: self.faults.clone() };
        let prefix = prefix.cloned().unwrap_or_default();
        let listed = async move {
            let list = faulty.inner.list(Some(&prefix)).collect::<Vec<_>>().map(Ok);
            let (results, _) = faulty.meet(Request::List, &prefix, list).await?;
            Ok::<_, Error>(stream::iter(results))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        Ok(self.meet(Request::Multipart, path, self.parts()?.create_multipart(path)).await?.0)
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part_idx: usize, data: PutPayload) -> Result<PartId> {
        Ok(self.meet(Request::Multipart, path, self.parts()?.put_part(path, id, part_idx, data)).await?.0)
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        Ok(self.meet(Request::Multipart, path, self.parts()?.complete_multipart(path, id, parts)).await?.0)
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.meet(Request::Multipart, path, self.parts()?.abort_multipart(path, id)).await.map(|_| ())
    }
}
