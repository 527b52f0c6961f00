//! Groups out of what is stored of a slot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::{ClusterState, SlotId};

use crate::groups::Group;
use crate::groups::runtime::Env;
use crate::groups::runtime::hosted::Hosted;
use crate::records::GroupKey;
use crate::store::Snapshot;

/// The groups, and those that cannot be read.
pub(super) fn groups(
    env: &Env,
    cluster: &ClusterState,
    slot: SlotId,
    stored: Snapshot,
) -> (BTreeMap<Arc<str>, Hosted>, BTreeSet<String>) {
    let mut records: BTreeMap<String, Vec<(GroupKey, Bytes)>> = BTreeMap::new();
    for entry in stored.entries {
        match env.shared.keys.parse_group(slot, &entry.key) {
            Some((group, key)) => records.entry(group).or_default().push((key, entry.value)),
            None => tracing::error!(key = entry.key, "cannot read the key of a group's record"),
        }
    }
    let (mut groups, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
    let context = env.context(cluster);
    for (id, records) in records {
        match Group::load(&id, records, &context) {
            Ok(group) => drop(groups.insert(id.as_str().into(), Hosted::new(group))),
            Err(error) => {
                tracing::error!(group = id, %error, "cannot read a group");
                unreadable.insert(id);
            }
        }
    }
    (groups, unreadable)
}
