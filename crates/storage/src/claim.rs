//! Whether the bucket is this cluster's, before anything is written to it or deleted.

use std::time::Duration;

use tidemark_model::{ClusterState, Entropy};
use tidemark_runtime::backoff::Backoff;
use tidemark_segment::{Bucket, Holder, StoreError};

/// The first wait for coordinators that have not claimed it yet, or for an object store that is away.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(5);

/// The bucket as the cluster of `state` holds it, once its coordinators have claimed it: it refuses writes and deletes when
/// another has. An error says who has it now.
pub async fn claimed(bucket: &Bucket, state: &ClusterState, entropy: &dyn Entropy) -> Result<Bucket, StoreError> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        let looked = look(bucket, state).await;
        let error = match looked {
            Err(error @ (StoreError::Unavailable(_) | StoreError::NotFound(_))) => error,
            looked => return looked,
        };
        if backoff.failures().is_power_of_two() {
            tracing::warn!(%error, "cannot look whose the bucket is, trying again");
        }
        tokio::time::sleep(backoff.next(entropy)).await;
    }
}

async fn look(bucket: &Bucket, state: &ClusterState) -> Result<Bucket, StoreError> {
    let cluster = &state.cluster_id;
    match state.claim {
        Some(claim) => {
            let holder = Holder { cluster: cluster.clone(), claim };
            holder.check(bucket).await?;
            Ok(bucket.guarded(holder))
        }
        // Coordinators without a bucket. Nothing is the matter while nobody else has it.
        None => match Holder::of(bucket).await? {
            None => Ok(bucket.clone()),
            Some(holder) => {
                let url = bucket.url();
                let why = format!("the bucket {url} belongs to {holder}, and cluster {cluster} has claimed none");
                Err(StoreError::Refused(why))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemark_model::Claim;
    use tidemark_segment::testing::{Memory, Seeded};

    use super::*;

    fn state(cluster: &str, claim: Option<Claim>) -> ClusterState {
        let mut state = ClusterState::new(cluster.into());
        state.claim = claim;
        state
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_the_coordinators_and_takes_no_for_an_answer() {
        let bucket = Memory::default().bucket(Arc::new(Seeded::new(1)));
        let entropy = Seeded::new(2);
        let claim = Claim { generation: 1, id: 7 };
        let holder = Holder { cluster: "one".into(), claim };
        let coordinators = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            holder.take(&bucket).await.unwrap();
        };
        let ours = state("one", Some(claim));
        let (held, ()) = futures::future::join(claimed(&bucket, &ours, &entropy), coordinators).await;
        held.unwrap().put_new("a", vec![]).await.unwrap();
        for other in [state("two", Some(claim)), state("two", None), state("one", Some(Claim { generation: 1, id: 8 }))]
        {
            let refused = claimed(&bucket, &other, &entropy).await;
            assert!(
                matches!(&refused, Err(StoreError::Refused(why)) if why.contains("belongs to cluster one")),
                "{refused:?}"
            );
        }
    }
}
