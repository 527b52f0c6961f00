//! For tests and simulations: an object store with faults, entropy from a seed, and [`sim`], what simulations share.

pub mod sim;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tidemark_model::Entropy;

use crate::Bucket;

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
    /// It is carried out, and never answered.
    Silence,
    /// A Put or a Delete is carried out this much later, whether or not anybody still waits for it.
    Late(Duration),
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

/// An object store in memory, for as many clients as there are, each with its own faults.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<InMemory>);

/// A small generator (splitmix64) for tests: the same seed gives the same numbers.
#[derive(Debug)]
pub struct Seeded(Mutex<u64>);

impl Memory {
    /// A client whose requests meet no faults.
    pub fn bucket(&self, entropy: Arc<dyn Entropy>) -> Bucket {
        Bucket::with_store(self.0.clone(), None, "", "memory://", entropy)
    }

    /// A client whose requests meet faults.
    pub fn faulty(&self, faults: Arc<dyn Faults>, entropy: Arc<dyn Entropy>) -> Bucket {
        let store = Faulty::new(self.0.clone(), Some(self.0.clone()), faults);
        Bucket::with_store(store.clone(), Some(store), "", "memory://", entropy)
    }
}

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

/// Carries out what changes the store in its own time, and waits for it, as long as it is waited for.
async fn late<T: Send + 'static>(
    delay: Duration,
    carry_out: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let carried_out = tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        carry_out.await
    });
    carried_out.await.unwrap_or_else(|error| Err(Error::Generic { store: "Faulty", source: error.into() }))
}

async fn suffer<T>(fault: &Fault, carry_out: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match fault {
        Fault::SlowDown => return Err(slow_down()),
        Fault::Hang => std::future::pending().await,
        Fault::Delay(delay) => tokio::time::sleep(*delay).await,
        Fault::Late(_) | Fault::Silence => {}
        Fault::None | Fault::LostAnswer | Fault::Truncated | Fault::BitFlip | Fault::Unconditional => {}
    }
    let done = carry_out.await?;
    if *fault == Fault::Silence {
        std::future::pending::<()>().await;
    }
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
        let opts = PutOptions { mode, ..opts };
        if let Fault::Late(delay) = fault {
            let (inner, location) = (self.inner.clone(), location.clone());
            return late(delay, async move { inner.put_opts(&location, payload, opts).await }).await;
        }
        suffer(&fault, self.inner.put_opts(location, payload, opts)).await
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
            let results = match faulty.faults.next(Request::Delete, first.as_ref()) {
                Fault::Late(delay) => late(delay, delete).await?,
                fault => suffer(&fault, delete).await?,
            };
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
