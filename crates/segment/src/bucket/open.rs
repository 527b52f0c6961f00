//! A bucket by URL.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::{ClientConfigKey, RetryConfig};
use tidemark_model::Entropy;
use tokio::sync::Semaphore;
use url::Url;

use super::directory::Directory;
use super::{Bucket, Inner, MAX_IN_FLIGHT, StoreError, error};

/// Longest a request may take inside the HTTP client. Only a stop behind the attempt's own deadline, which knows its size.
const HTTP_TIMEOUT: &str = "30 minutes";

impl Bucket {
    /// Opens a bucket by its URL, without talking to it yet: see [`check`](Self::check).
    ///
    /// | URL | is |
    /// |---|---|
    /// | `s3://bucket/prefix` | S3 or what speaks like it: endpoint, region and credentials from `AWS_…` in `env` |
    /// | `gs://bucket/prefix` | Google Cloud Storage: credentials from `GOOGLE_…`, or the instance's own |
    /// | `az://container/prefix` | Azure Blob Storage: account and credentials from `AZURE_…`, or the instance's own |
    /// | `file:///directory` | a local directory, created; every object fsynced |
    /// | `memory://` | gone with the process: for tests |
    ///
    /// `env` is `std::env::vars()`, or what a test wants. Beside the AWS tools' own variables (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, web identity, container and instance
    /// roles): `AWS_ALLOW_HTTP=true` for an endpoint without TLS, `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`,
    /// `AWS_UNSIGNED_PAYLOAD`, `AWS_CHECKSUM_ALGORITHM`. Google's and Azure's variables are those of their tools, such as
    /// `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`,
    /// `AZURE_STORAGE_CLIENT_ID`, `AZURE_STORAGE_ENDPOINT`.
    pub fn open(
        url: &str,
        env: impl IntoIterator<Item = (String, String)>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StoreError> {
        let refused = |why: String| StoreError::Refused(format!("{url}: {why}"));
        let parsed = Url::parse(url).map_err(|e| refused(format!("not a URL: {e}")))?;
        match parsed.scheme() {
            "s3" => open_s3(&parsed, env, entropy),
            "gs" => open_gcs(&parsed, env, entropy),
            "az" => open_azure(&parsed, env, entropy),
            "file" => {
                let dir = parsed.to_file_path().map_err(|()| refused("not a local directory".into()))?;
                Self::in_directory(&dir, entropy)
            }
            "memory" => Ok(Self::in_memory(entropy)),
            other => {
                Err(refused(format!("{other}:// is not supported: use s3://, gs://, az://, file:// or memory://")))
            }
        }
    }

    /// A local directory, which is created when it is not there.
    pub fn in_directory(dir: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, StoreError> {
        let url = format!("file://{}", dir.display());
        create_durably(dir).map_err(|e| StoreError::Refused(format!("{url}: cannot create the directory: {e}")))?;
        let store = Directory::new(dir).map_err(|e| error::classify(&url, "", e))?;
        Ok(Self::with_inner(Inner {
            url,
            store: Arc::new(store),
            multipart: None,
            prefix: object_store::path::Path::default(),
            visible_is_durable: false,
            entropy,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        }))
    }

    /// Removes what writes that a crash cut short have left in a local directory, and says how many. Only for the one
    /// process that writes there, before it does: another's write under way looks the same.
    pub fn remove_unfinished(dir: &Path) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                removed += Self::remove_unfinished(&entry.path())?;
            } else if is_unfinished(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Memory of this process. Clones share it.
    pub fn in_memory(entropy: Arc<dyn Entropy>) -> Self {
        Self::with_store(Arc::new(InMemory::new()), None, "", "memory://", entropy)
    }
}

fn open_s3(
    url: &Url,
    env: impl IntoIterator<Item = (String, String)>,
    entropy: Arc<dyn Entropy>,
) -> Result<Bucket, StoreError> {
    let refused = |why: &str| StoreError::Refused(format!("{url}: {why}"));
    let bucket = named(url, "bucket")?;

    // Our formats and the batches in them carry checksums, and CRC-64 makes the server check what arrives: signing a
    // SHA-256 of every body beside that would only cost CPU. The environment may say otherwise.
    let mut builder = AmazonS3Builder::new()
        .with_unsigned_payload(true)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), HTTP_TIMEOUT);
    for (key, value) in keys::<AmazonS3ConfigKey>(env, "AWS_") {
        builder = builder.with_config(key, value);
    }
    let allows_http = builder
        .get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))
        .is_some_and(|value| value == "true");
    let plain_endpoint = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint]
        .iter()
        .filter_map(|key| builder.get_config_value(key))
        .any(|endpoint| endpoint.starts_with("http://"));
    if plain_endpoint && !allows_http {
        return Err(refused("the endpoint is http://: set AWS_ALLOW_HTTP=true to allow it"));
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(no_retry())
        .build()
        .map_err(|e| error::classify(url.as_str(), "", e))?;
    let store = Arc::new(store);
    Ok(Bucket::with_store(store.clone(), Some(store), url.path(), url.as_str(), entropy))
}

/// Retrying is ours: see `retry`.
fn no_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn open_gcs(
    url: &Url,
    env: impl IntoIterator<Item = (String, String)>,
    entropy: Arc<dyn Entropy>,
) -> Result<Bucket, StoreError> {
    let bucket = named(url, "bucket")?;
    let mut builder =
        GoogleCloudStorageBuilder::new().with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), HTTP_TIMEOUT);
    for (key, value) in keys::<GoogleConfigKey>(env, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(no_retry())
        .build()
        .map_err(|e| error::classify(url.as_str(), "", e))?;
    let store = Arc::new(store);
    Ok(Bucket::with_store(store.clone(), Some(store), url.path(), url.as_str(), entropy))
}

fn open_azure(
    url: &Url,
    env: impl IntoIterator<Item = (String, String)>,
    entropy: Arc<dyn Entropy>,
) -> Result<Bucket, StoreError> {
    let container = named(url, "container")?;
    let mut builder =
        MicrosoftAzureBuilder::new().with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), HTTP_TIMEOUT);
    for (key, value) in keys::<AzureConfigKey>(env, "AZURE_") {
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_container_name(container)
        .with_retry(no_retry())
        .build()
        .map_err(|e| error::classify(url.as_str(), "", e))?;
    let store = Arc::new(store);
    Ok(Bucket::with_store(store.clone(), Some(store), url.path(), url.as_str(), entropy))
}

fn named<'a>(url: &'a Url, what: &str) -> Result<&'a str, StoreError> {
    let name = url.host_str().filter(|host| !host.is_empty());
    name.ok_or_else(|| StoreError::Refused(format!("{url}: no {what} in the URL")))
}

/// The variables of the environment that the library knows.
fn keys<K: FromStr>(
    env: impl IntoIterator<Item = (String, String)>,
    prefix: &str,
) -> impl Iterator<Item = (K, String)> {
    let known = move |(name, value): (String, String)| {
        let key = name.starts_with(prefix).then(|| name.to_ascii_lowercase().parse().ok())??;
        Some((key, value))
    };
    env.into_iter().filter_map(known)
}

/// The library writes an object as `name#number` and then gives it its name.
fn is_unfinished(file: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    file.rsplit_once('#').is_some_and(|(_, suffix)| number(suffix))
}

/// Creates the directory and those above it, each durable before the next is used.
pub(super) fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(e),
        _ => {}
    }
    File::open(parent)?.sync_all()
}
