//! The files of etcd's members: how large they are, and making them smaller.

use std::time::Duration;

use etcd_client::Client;

use super::{EtcdOptions, connect, deadline, store_error};
use crate::store::{StoreError, Usage};

/// How long a member may take to write its file anew, some seconds for each gigabyte.
const DEFRAGMENT_DEADLINE: Duration = Duration::from_secs(120);

/// Of the member that answers. Members apply the same and compact the same.
pub(super) async fn usage(client: &Client) -> Result<Usage, StoreError> {
    let status = deadline(client.maintenance_client().status()).await?;
    Ok(Usage { file: status.db_size().max(0) as u64, used: status.raft_used_db_size().max(0) as u64 })
}

/// A member by itself.
struct Member {
    endpoint: String,
    client: Client,
    leads: bool,
    usage: Usage,
}

/// The members are those that are configured. An address that stands for several of them reaches one of these, whichever.
pub(super) async fn defragment(options: &EtcdOptions, least: u64) -> Result<u64, StoreError> {
    let mut members = Vec::new();
    for endpoint in &options.endpoints {
        let client = connect(std::slice::from_ref(endpoint), options).await?;
        let status = deadline(client.maintenance_client().status()).await?;
        let leads = status.header().is_some_and(|header| header.member_id() == status.leader());
        let usage = usage(&client).await?;
        members.push(Member { endpoint: endpoint.clone(), client, leads, usage });
    }
    // The leader last: where it stops for long, another is elected, once.
    members.sort_by_key(|member| member.leads);
    let mut given_back = 0;
    for Member { endpoint, client, usage: before, .. } in members {
        let free = before.file.saturating_sub(before.used);
        if free <= least || free <= before.used {
            continue;
        }
        tracing::info!(endpoint, file = before.file, used = before.used, "defragmenting a member of etcd");
        let mut maintenance = client.maintenance_client();
        match tokio::time::timeout(DEFRAGMENT_DEADLINE, maintenance.defragment()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(store_error(error)),
            Err(_) => return Err(StoreError::Unavailable(format!("{endpoint} takes too long to defragment"))),
        }
        given_back += before.file.saturating_sub(usage(&client).await?.file);
    }
    Ok(given_back)
}
