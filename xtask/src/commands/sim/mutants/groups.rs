//! Bugs of the coordinator, as far as consumer groups would suffer from them.

use super::{Edit, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a commit answered before the store has it",
        edits: &[Edit {
            file: "groups/runtime/hosted.rs",
            find: "        if needs <= self.stored {\n            return Some(outcome);",
            replace: "        if needs <= self.stored || needs > 0 {\n            return Some(outcome);",
        }],
    },
    Mutant {
        name: "what is read out not confirmed",
        edits: &[Edit {
            file: "groups/runtime/slot.rs",
            find: "                let confirmed = tokio::time::timeout(STORE_PATIENCE, confirmed).await;\n",
            replace: "                drop(confirmed);\n                let confirmed: Result<_, tokio::time::error::Elapsed> = Ok(Ok(()));\n",
        }],
    },
    Mutant {
        name: "writes not fenced by the slot's record",
        edits: &[Edit {
            file: "slots/queue.rs",
            find: "            flight.txn.conditions.push(Condition::Unchanged(key.clone(), lane.revision));\n",
            replace: "            let _ = |lane: &Lane| Condition::Unchanged(key.clone(), lane.revision);\n",
        }],
    },
    Mutant {
        name: "a transaction of unknown outcome tried again without making the first one void",
        edits: &[Edit {
            file: "slots/queue.rs",
            find: "Outcome::Unknown => (lane.doubted, lane.fence) = (true, true),",
            replace: "Outcome::Unknown => (lane.doubted, lane.fence) = (true, false),",
        }],
    },
    Mutant {
        name: "two transactions of a group at a time",
        edits: &[Edit {
            file: "slots/queue.rs",
            find: "        line.busy = true;\n",
            replace: "        line.busy = false;\n",
        }],
    },
    Mutant {
        name: "a partition given to a member before another has given it back",
        edits: &[Edit {
            file: "groups/consumer.rs",
            find: "self.owners.get(&TopicPartition::new(topic, partition)).is_none_or(|owner| **owner == *member)",
            replace: "self.owners.get(&TopicPartition::new(topic, partition)).is_none_or(|owner| !member.is_empty() || **owner == *member)",
        }],
    },
    Mutant {
        name: "a member taken for having given back what it still reads",
        edits: &[Edit {
            file: "groups/consumer/reconcile.rs",
            find: "let Some(owned) = self.owned else { return true };",
            replace: "let Some(owned) = self.owned else { return false };",
        }],
    },
    Mutant {
        name: "a commit of an older generation taken",
        edits: &[Edit {
            file: "groups/classic.rs",
            find: "        self.check_member(member_id, instance_id.as_deref())?;\n        if *generation != self.generation {\n            return Err(GroupError::IllegalGeneration);\n        }\n        match",
            replace: "        if self.members.contains_key(member_id) {\n            self.check_member(member_id, instance_id.as_deref())?;\n        }\n        match",
        }],
    },
    Mutant {
        name: "members of a group that moved have no more of their sessions",
        edits: &[Edit {
            file: "groups/classic/stored.rs",
            find: "    member.heard(scope.now);\n    member\n",
            replace: "    member.heard(scope.now - member.session_timeout);\n    member\n",
        }],
    },
    Mutant {
        name: "a generation answered to its members and not stored",
        edits: &[Edit {
            file: "groups/classic/sync.rs",
            find: "        self.store(out);\n        let ids",
            replace: "        let ids",
        }],
    },
    Mutant {
        name: "an assignment told before the store has it",
        edits: &[Edit {
            file: "groups/consumer/told.rs",
            find: "*progress == Progress::UnrevokedPartitions\n                && *epoch == told.epoch\n                && member.subscription == told.subscription\n                && assigned",
            replace: "(*progress != Progress::UnrevokedPartitions || *epoch == told.epoch)\n                && member.subscription == told.subscription\n                || assigned",
        }],
    },
    Mutant {
        name: "a slot lost by its owner and served on",
        edits: &[
            Edit {
                file: "slots/hub.rs",
                find: "            holding.lost.cancel();\n",
                replace: "            let _ = holding;\n",
            },
            Edit { file: "slots/hub.rs", find: "        self.user.lost(slot);\n", replace: "" },
        ],
    },
    Mutant {
        name: "a follower of the cluster state not told what was undone",
        edits: &[Edit {
            file: "state.rs",
            find: "is_some_and(|older| older < revision)",
            replace: "is_some_and(|older| older > revision)",
        }],
    },
    Mutant {
        name: "offsets in the opposite order of their writes",
        edits: &[Edit {
            file: "slots/queue.rs",
            find: ".writes.push_front(write);",
            replace: ".writes.push_back(write);",
        }],
    },
    Mutant {
        name: "a static member that was replaced heard on",
        edits: &[
            Edit {
                file: "groups/classic/join.rs",
                find: "let Some(mut member) = self.members.remove(old) else",
                replace: "let Some(mut member) = self.members.get(old).cloned() else",
            },
            Edit {
                file: "groups/classic.rs",
                find: "Some(current) if current != member_id => return",
                replace: "Some(current) if current.is_empty() => return",
            },
        ],
    },
    Mutant {
        name: "a group that is upgraded without what its members have",
        edits: &[Edit {
            file: "groups/consumer/migrate.rs",
            find: "let assigned = group.assigned_by(&assignment, scope);",
            replace: "let assigned = group.assigned_by(&assignment, scope).into_iter().take(0).collect();",
        }],
    },
    Mutant {
        name: "a group that is downgraded without what its members have",
        edits: &[Edit {
            file: "groups/consumer/migrate.rs",
            find: "let mut held = member.current.assigned.clone();",
            replace: "let mut held = Partitions::default();",
        }],
    },
];
