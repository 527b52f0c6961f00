use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::testing::{Fault, Faults, Faulty, Request, Script, Seeded};

fn entropy() -> Arc<dyn Entropy> {
    Arc::new(Seeded::new(1))
}

fn chunks(parts: &[&'static str]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
}

/// What every kind of bucket does.
async fn contract(bucket: Bucket) {
    bucket.check(Access::Read).await.unwrap();
    bucket.check(Access::Write).await.unwrap();
    assert_eq!(bucket.list("").await.unwrap(), [], "a probe was left behind");

    bucket.put_new("a/b/1", chunks(&["hello ", "", "world"])).await.unwrap();
    bucket.put_new("a/b/2", chunks(&["x"])).await.unwrap();
    bucket.put_new("a/bc/3", vec![]).await.unwrap();
    assert_eq!(bucket.put_new("a/b/1", chunks(&["other"])).await, Err(StoreError::Exists("a/b/1".into())));

    assert_eq!(bucket.get("a/b/1", 11).await.unwrap(), "hello world");
    assert!(matches!(bucket.get("a/b/1", 10).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(bucket.get("a/bc/3", 0).await.unwrap(), "");
    assert_eq!(bucket.get_range("a/b/1", 4..7).await.unwrap(), "o w");
    assert_eq!(bucket.get_range("a/b/1", 3..3).await.unwrap(), "");
    let ranges = bucket.get_ranges("a/b/1", vec![6..11, 0..5]).await.unwrap();
    assert_eq!(ranges, ["world", "hello"]);
    for past_the_end in [5..12, 11..12, 100..200] {
        let result = bucket.get_range("a/b/1", past_the_end.clone()).await;
        assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{past_the_end:?}: {result:?}");
    }

    assert_eq!(bucket.head("a/b/1").await, Ok(11));
    assert_eq!(bucket.head("a/b/9").await, Err(StoreError::NotFound("a/b/9".into())));
    assert_eq!(bucket.get_range("a/b/9", 0..1).await, Err(StoreError::NotFound("a/b/9".into())));

    let object = |key: &str, size| Object { key: key.into(), size };
    assert_eq!(bucket.list("a/b").await.unwrap(), [object("a/b/1", 11), object("a/b/2", 1)]);
    assert_eq!(bucket.list("a").await.unwrap().len(), 3);
    assert_eq!(bucket.list("none").await.unwrap(), []);

    bucket.delete(&["a/b/1".into(), "a/b/9".into(), "a/bc/3".into()]).await.unwrap();
    bucket.delete(&["a/b/1".into()]).await.unwrap();
    bucket.delete(&[]).await.unwrap();
    assert_eq!(bucket.list("").await.unwrap(), [object("a/b/2", 1)]);
    bucket.delete(&["a/b/2".into()]).await.unwrap();

    assert!(matches!(bucket.put_new("a/../b", vec![]).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(Bucket::in_memory(entropy())).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let url = format!("file://{}/new/objects", dir.path().display());
    let bucket = Bucket::open(&url, [], entropy()).unwrap();
    assert!(bucket.is_local() && !Bucket::in_memory(entropy()).is_local());
    contract(bucket).await;
}

#[tokio::test]
async fn what_a_crash_left_of_a_write_is_removed_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let bucket = Bucket::in_directory(dir.path(), entropy()).unwrap();
    bucket.put_new("a/1.segment", chunks(&["x"])).await.unwrap();
    let files = || std::fs::read_dir(dir.path().join("a")).unwrap().count();
    assert_eq!(files(), 1, "a finished write leaves its object only");
    std::fs::write(dir.path().join("a/2.segment#1"), "half").unwrap();
    assert_eq!(bucket.list("").await.unwrap().len(), 1);
    assert_eq!(Bucket::remove_unfinished(dir.path()).unwrap(), 1);
    assert_eq!(bucket.get("a/1.segment", 1).await.unwrap(), "x");
    assert_eq!(files(), 1);
}

#[tokio::test]
async fn a_prefix_keeps_the_contract_and_its_neighbours() {
    let store = Arc::new(InMemory::new());
    let open = |prefix| Bucket::with_store(store.clone(), None, prefix, "memory://", entropy());
    open("other").put_new("a/b/1", chunks(&["theirs"])).await.unwrap();
    open("").put_new("a/b/1", chunks(&["theirs"])).await.unwrap();
    contract(open("deep/prefix")).await;
    assert_eq!(open("").list("").await.unwrap().len(), 2);
}

/// `TIDEMARK_S3_TEST_URL` names a bucket, and a prefix in it that is empty, on a server that `AWS_…` leads to.
#[tokio::test]
async fn s3_keeps_the_contract() {
    let Ok(url) = std::env::var("TIDEMARK_S3_TEST_URL") else {
        println!("skipped: TIDEMARK_S3_TEST_URL is not set");
        return;
    };
    let open = |url: &str| Bucket::open(url, std::env::vars(), entropy()).unwrap();
    contract(open(&url)).await;

    let in_parts = open(&url).with_upload_limits(1024 * 1024, 5 * 1024 * 1024);
    let large: Vec<Bytes> = (0..12).map(|fill| Bytes::from(vec![fill; 1024 * 1024])).collect();
    in_parts.put_new("large", large.clone()).await.unwrap();
    assert_eq!(in_parts.get("large", u64::MAX).await.unwrap(), large.concat());
    assert_eq!(in_parts.put_new("large", large).await, Err(StoreError::Exists("large".into())));
    in_parts.delete(&["large".into()]).await.unwrap();

    let wrong = url.replacen("s3://", "s3://no-such-bucket-", 1);
    let refused = open(&wrong).check(Access::Read).await;
    assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains(&wrong)), "{refused:?}");

    let wrong_secret = [("AWS_SECRET_ACCESS_KEY".to_owned(), "wrong".to_owned())];
    let stranger = Bucket::open(&url, std::env::vars().chain(wrong_secret), entropy()).unwrap();
    let refused = stranger.check(Access::Read).await;
    assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("403")), "{refused:?}");
}

/// A bucket in memory whose requests meet these faults, and the memory.
fn faulty(faults: Arc<dyn Faults>) -> (Bucket, Arc<InMemory>) {
    let store = Arc::new(InMemory::new());
    let faulty = Faulty::new(store.clone(), Some(store.clone()), faults);
    (Bucket::with_store(faulty.clone(), Some(faulty), "", "memory://", entropy()), store)
}

fn script(faults: impl IntoIterator<Item = Fault>) -> (Bucket, Arc<Script>, Arc<InMemory>) {
    let script = Arc::new(Script::new(faults));
    let (bucket, store) = faulty(script.clone());
    (bucket, script, store)
}

#[tokio::test(start_paused = true)]
async fn every_operation_outlives_faults() {
    let second = Duration::from_secs(1);
    let rounds = [
        vec![Fault::SlowDown, Fault::SlowDown],
        vec![Fault::Hang],
        vec![Fault::Delay(second)],
        vec![Fault::LostAnswer],
    ];
    for faults in rounds {
        let (bucket, store) = faulty(Arc::new(Script::default()));
        let after = |bucket: &Bucket, store: &Arc<InMemory>| {
            let script = Arc::new(Script::new(faults.clone()));
            let faulty = Faulty::new(store.clone(), Some(store.clone()), script.clone());
            (Bucket::with_store(faulty, None, "", bucket.url(), entropy()), script)
        };
        let (faulted, script) = after(&bucket, &store);
        faulted.put_new("a/1", chunks(&["hello ", "world"])).await.unwrap();
        assert_eq!((script.left(), bucket.get("a/1", 20).await.unwrap()), (0, "hello world".into()));

        let (faulted, script) = after(&bucket, &store);
        assert_eq!(faulted.get_range("a/1", 0..5).await.unwrap(), "hello");
        assert_eq!(script.left(), 0);

        let (faulted, script) = after(&bucket, &store);
        assert_eq!(faulted.head("a/1").await, Ok(11));
        assert_eq!(script.left(), 0);

        let (faulted, script) = after(&bucket, &store);
        assert_eq!(faulted.list("a").await.unwrap().len(), 1);
        assert_eq!(script.left(), 0);

        let (faulted, script) = after(&bucket, &store);
        faulted.delete(&["a/1".into()]).await.unwrap();
        assert_eq!((script.left(), bucket.list("").await.unwrap()), (0, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_body_is_read_again() {
    let (bucket, script, _) = script([Fault::None, Fault::Truncated, Fault::Truncated]);
    bucket.put_new("a", chunks(&["hello world"])).await.unwrap();
    assert_eq!(bucket.get_range("a", 0..11).await.unwrap(), "hello world");
    assert_eq!(script.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_was_lost_is_not_taken_for_another_object() {
    let (bucket, _, _) = script([Fault::LostAnswer]);
    bucket.put_new("a", chunks(&["mine"])).await.unwrap();

    // The first attempt did nothing, and something else took the name meanwhile.
    let (bucket, _, store) = script([Fault::SlowDown, Fault::Delay(Duration::from_secs(1))]);
    let put = bucket.put_new("a", chunks(&["mine"]));
    let other = async {
        let theirs = Bucket::with_store(store.clone(), None, "", "memory://", entropy());
        theirs.put_new("a", chunks(&["else"])).await.unwrap();
    };
    assert_eq!(tokio::join!(put, other).0, Err(StoreError::Exists("a".into())));
}

#[tokio::test(start_paused = true)]
async fn a_local_object_whose_fsync_may_have_failed_is_not_taken_for_stored() {
    let dir = TempDir::new().unwrap();
    let local = Bucket::in_directory(dir.path(), entropy()).unwrap();
    let faulty = Faulty::new(local.inner.store.clone(), None, Arc::new(Script::new([Fault::LostAnswer])));
    let inner = Inner {
        url: local.url().to_owned(),
        store: faulty,
        multipart: None,
        prefix: Path::default(),
        visible_is_durable: local.inner.visible_is_durable,
        entropy: entropy(),
        in_flight: Semaphore::new(1),
    };
    let result = Bucket::with_inner(inner).put_new("a", chunks(&["x"])).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
}

/// Never works.
#[derive(Debug, Default)]
struct Down(AtomicUsize);

impl Faults for Down {
    fn next(&self, _: Request, _: &str) -> Fault {
        self.0.fetch_add(1, Ordering::Relaxed);
        Fault::SlowDown
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_in_unavailable_within_the_budget() {
    let down = Arc::new(Down::default());
    let (bucket, _) = faulty(down.clone());
    let started = Instant::now();
    assert!(matches!(bucket.put_new("a", chunks(&["x"])).await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() <= RetryPolicy::default().budget);
    let attempts = down.0.swap(0, Ordering::Relaxed);
    assert!((5..100).contains(&attempts), "{attempts} attempts");

    let hasty = bucket.with_retry(RetryPolicy { budget: Duration::ZERO, ..RetryPolicy::default() });
    assert!(matches!(hasty.head("a").await, Err(StoreError::Unavailable(_))));
    assert!(down.0.load(Ordering::Relaxed) <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up() {
    let (bucket, _, _) = script(std::iter::repeat_n(Fault::Hang, 1000));
    let started = Instant::now();
    assert!(matches!(bucket.head("a").await, Err(StoreError::Unavailable(_))));
    let RetryPolicy { budget, attempt_timeout, .. } = RetryPolicy::default();
    assert!(started.elapsed() <= budget + attempt_timeout);
}

#[tokio::test(start_paused = true)]
async fn parts_are_tried_again_one_by_one() {
    let content: Vec<Bytes> = (0..10).map(|fill| Bytes::from(vec![fill; 7])).collect();
    // The look at the name, the upload's start, two parts, and its end.
    for faults in [
        vec![Fault::SlowDown, Fault::None, Fault::SlowDown, Fault::None, Fault::SlowDown, Fault::LostAnswer],
        vec![Fault::None, Fault::None, Fault::None, Fault::None, Fault::None, Fault::None, Fault::LostAnswer],
    ] {
        let (bucket, script, _) = script(faults);
        let bucket = bucket.with_upload_limits(20, 20);
        bucket.put_new("large", content.clone()).await.unwrap();
        assert_eq!(script.left(), 0);
        assert_eq!(bucket.get("large", 70).await.unwrap(), content.concat());
        assert_eq!(bucket.put_new("large", content.clone()).await, Err(StoreError::Exists("large".into())));
    }
}

/// Overwrites what it should not.
#[tokio::test]
async fn a_store_without_conditional_writes_is_refused() {
    #[derive(Debug)]
    struct Forgetful;
    impl Faults for Forgetful {
        fn next(&self, _: Request, _: &str) -> Fault {
            Fault::Unconditional
        }
    }
    let (bucket, _) = faulty(Arc::new(Forgetful));
    let refused = bucket.check(Access::Write).await;
    assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("If-None-Match")), "{refused:?}");
}

#[test]
fn wrong_urls_and_settings_are_refused_at_once() {
    let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (url, env, expected) in [
        ("nonsense", vec![], "not a URL"),
        ("gopher://x", vec![], "gopher:// is not supported"),
        ("s3:///prefix", vec![], "no bucket"),
        ("gs:///prefix", vec![], "no bucket"),
        ("az:///prefix", vec![], "no container"),
        ("s3://b", env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), "AWS_ALLOW_HTTP"),
        ("file:///proc/nowhere/dir", vec![], "cannot create"),
    ] {
        match Bucket::open(url, env, entropy()) {
            Err(StoreError::Refused(why)) => assert!(why.contains(expected) && why.contains(url), "{why}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[test]
fn debug_shows_no_credentials() {
    let env = [("AWS_ACCESS_KEY_ID", "visible-id"), ("AWS_SECRET_ACCESS_KEY", "visible-secret")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bucket = Bucket::open("s3://b/p", env, entropy()).unwrap();
    assert_eq!(bucket.url(), "s3://b/p");
    assert!(!format!("{bucket:?}").contains("visible"));
}

/// A server that gives every request this answer.
async fn answering(status: &'static str, body: &'static str) -> Bucket {
    at_address(&answering_at(status, body).await)
}

async fn answering_at(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    address.to_string()
}

fn at_address(address: &str) -> Bucket {
    let endpoint = format!("http://{address}");
    let env = [
        ("AWS_ENDPOINT_URL", &*endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let once = RetryPolicy { budget: Duration::ZERO, ..RetryPolicy::default() };
    Bucket::open("s3://b/p", env, entropy()).unwrap().with_retry(once)
}

#[tokio::test]
async fn statuses_become_what_the_caller_does_next() {
    let refused = |result: &Result<Bytes, StoreError>| matches!(result, Err(StoreError::Refused(_)));
    let unavailable = |result: &Result<Bytes, StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
    let not_found = |result: &Result<Bytes, StoreError>| matches!(result, Err(StoreError::NotFound(_)));
    let corrupt = |result: &Result<Bytes, StoreError>| matches!(result, Err(StoreError::Corrupt { .. }));
    type Expected<'a> = &'a dyn Fn(&Result<Bytes, StoreError>) -> bool;
    let table: [(&str, &str, Expected<'_>); 13] = [
        ("301 Moved Permanently", "PermanentRedirect", &refused),
        ("400 Bad Request", "<Code>InvalidArgument</Code>", &refused),
        ("400 Bad Request", "<Code>ExpiredToken</Code>", &unavailable),
        ("401 Unauthorized", "", &refused),
        ("403 Forbidden", "<Code>InvalidAccessKeyId</Code>", &refused),
        ("404 Not Found", "<Code>NoSuchKey</Code>", &not_found),
        ("404 Not Found", "<Code>NoSuchBucket</Code>", &refused),
        ("408 Request Timeout", "", &unavailable),
        ("416 Range Not Satisfiable", "", &corrupt),
        ("429 Too Many Requests", "", &unavailable),
        ("500 Internal Server Error", "", &unavailable),
        ("501 Not Implemented", "", &refused),
        ("503 Service Unavailable", "<Code>SlowDown</Code>", &unavailable),
    ];
    for (status, body, expected) in table {
        let result = answering(status, body).await.get_range("k", 0..10).await;
        assert!(expected(&result), "{status} {body}: {result:?}");
    }
    let cut = answering(
        "206 Partial Content\r\netag: \"1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-range: bytes 0-9/10",
        "half",
    );
    let result = cut.await.get_range("k", 0..10).await;
    assert!(unavailable(&result), "a body of 4 bytes for 10: {result:?}");
}

/// Google's and Azure's clients, at a server that answers all with this.
async fn clouds_answered(status: &'static str, body: &'static str) -> [Bucket; 2] {
    let endpoint = format!("http://{}", answering_at(status, body).await);
    let set = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let azure = set(&[
        ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
        ("AZURE_STORAGE_ENDPOINT", &endpoint),
        ("AZURE_ALLOW_HTTP", "true"),
    ]);
    let google =
        set(&[("GOOGLE_BASE_URL", &endpoint), ("GOOGLE_BEARER_TOKEN", "token"), ("GOOGLE_ALLOW_HTTP", "true")]);
    let once = RetryPolicy { budget: Duration::ZERO, ..RetryPolicy::default() };
    [("az://container/p", azure), ("gs://bucket/p", google)]
        .map(|(url, env)| Bucket::open(url, env, entropy()).unwrap().with_retry(once))
}

#[tokio::test]
async fn google_and_azure_are_spoken_to_and_what_they_refuse_is_said() {
    for bucket in clouds_answered("404 Not Found", "<Code>ContainerNotFound</Code>").await {
        let result = bucket.get_range("k", 0..10).await;
        assert!(matches!(&result, Err(StoreError::Refused(why)) if why.contains("does not exist")), "{result:?}");
    }
    for bucket in clouds_answered("403 Forbidden", "no rights").await {
        let result = bucket.put_new("k", chunks(&["x"])).await;
        assert!(matches!(&result, Err(StoreError::Refused(why)) if why.contains(bucket.url())), "{result:?}");
    }
    for bucket in clouds_answered("503 Service Unavailable", "later").await {
        let result = bucket.put_new("k", chunks(&["x"])).await;
        assert!(matches!(&result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    for bucket in clouds_answered("412 Precondition Failed", "").await {
        assert_eq!(bucket.put_new("k", chunks(&["x"])).await, Err(StoreError::Exists("k".into())), "{bucket:?}");
    }
}

#[tokio::test]
async fn a_put_that_meets_a_taken_name_or_no_server() {
    let taken = answering("412 Precondition Failed", "<Code>PreconditionFailed</Code>").await;
    assert_eq!(taken.put_new("k", chunks(&["x"])).await, Err(StoreError::Exists("k".into())));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let result = at_address(&nobody.to_string()).put_new("k", chunks(&["x"])).await;
    assert!(matches!(&result, Err(StoreError::Unavailable(why)) if why.contains("refused")), "{result:?}");
}

#[tokio::test]
async fn calls_can_be_spawned() {
    let bucket = Bucket::in_memory(entropy());
    tokio::spawn(async move { bucket.put_new("a", vec![]).await }).await.unwrap().unwrap();
}
