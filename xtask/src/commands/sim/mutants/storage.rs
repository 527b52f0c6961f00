//! Bugs of the storage service.

use super::{Edit, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "acknowledged before the fdatasync",
        edits: &[
            Edit {
                file: "wal/writer.rs",
                find: "        let locations = self.encode(group, &mut end, start, header);\n",
                replace: "        file.handle.sync_data().map_err(WriteError::NotSynced)?;\n        let locations = self.encode(group, &mut end, start, header);\n",
            },
            Edit {
                file: "wal/writer.rs",
                find: "        if let Err(error) = file.handle.sync_data() {\n            return Err(WriteError::NotSynced(error));\n        }\n",
                replace: "",
            },
        ],
    },
    Mutant {
        name: "a failed fdatasync tried again as if that were good",
        edits: &[Edit {
            file: "wal/writer.rs",
            find: "        if let Err(error) = file.handle.sync_data() {\n            return",
            replace: "        if let Err(error) = file.handle.sync_data().or_else(|_| file.handle.sync_data()) {\n            return",
        }],
    },
    Mutant {
        name: "trimmed before the manifest",
        edits: &[Edit {
            file: "tier/checkpoint.rs",
            find: "name.index.min(core.state.tiered_through) + 1",
            replace: "name.index + 1",
        }],
    },
    Mutant {
        name: "sequence kept after a failed append",
        edits: &[Edit {
            file: "journal/core.rs",
            find: "        self.slots.values_mut().for_each(|slot| slot.ahead = None);\n",
            replace: "        for (at, slot) in &mut self.slots {\n            if let Some(ahead) = &mut slot.ahead {\n                let committed = self.state.partitions.get(at);\n                ahead.next_offset = committed.map_or(0, |state| state.high_watermark);\n                ahead.entries = 0;\n            }\n        }\n",
        }],
    },
    Mutant {
        name: "recycled tail accepted",
        edits: &[
            Edit {
                file: "wal/format.rs",
                find: "(crc32c::crc32c_append(seed, &entry[4..covered]) == frame.checksum)",
                replace: "(seed != !0 && crc32c::crc32c_append(0, &entry[4..covered]) == frame.checksum)",
            },
            Edit {
                file: "wal/format.rs",
                find: "let crc = crc32c::crc32c_append(seed, &header[4..ENTRY_HEADER_LEN]);",
                replace: "let crc = crc32c::crc32c_append(seed & 0, &header[4..ENTRY_HEADER_LEN]);",
            },
            Edit {
                file: "wal/recovery.rs",
                find: "                && frame.id.epoch >= next.id.epoch\n                && frame.previous_checksum == next.checksum\n",
                replace: "                || frame.id.index > 0\n",
            },
        ],
    },
    Mutant {
        name: "the same epoch after a failed append",
        edits: &[Edit {
            file: "journal.rs",
            find: "WriteError::Undone(cause) => (Phase::Reopening(refusal(cause)), refusal(cause)),",
            replace: "WriteError::Undone(cause) => (Phase::Serving, refusal(cause)),",
        }],
    },
    Mutant {
        name: "a failed group undone, but not durably",
        edits: &[Edit {
            file: "wal/writer.rs",
            find: "let cleansed = write_all(&*file.handle, &zeros, *start).and_then(|()| file.handle.sync_data());",
            replace: "let cleansed = write_all(&*file.handle, &zeros[..0], *start);",
        }],
    },
    Mutant {
        name: "a duplicate answered before its original is durable",
        edits: &[Edit {
            file: "journal/admit.rs",
            find: "        if last == self.state.last.index {\n            // Nothing",
            replace: "        if self.next_index == before {\n            // Nothing",
        }],
    },
    Mutant {
        name: "what recovery finds is not made durable",
        edits: &[Edit {
            file: "wal/recovery.rs",
            find: "                    harden(file, &bytes, &scanned)?;\n",
            replace: "                    let _ = (harden, &scanned.group);\n",
        }],
    },
    Mutant {
        name: "a failed PUT taken for good",
        edits: &[Edit {
            file: "tier/flush.rs",
            find: "        if let Err(error) = self.store.put_segment(name, chunks).await {\n",
            replace: "        let put = self.store.put_segment(name, chunks).await;\n        if let Err(error @ StoreError::Refused(_)) = put {\n",
        }],
    },
    Mutant {
        name: "a PUT without an intent",
        edits: &[Edit {
            file: "tier/flush.rs",
            find: "        self.journal.append_entry(Entry::SegmentIntended(name)).await?;\n",
            replace: "        let _ = Entry::SegmentIntended(name);\n",
        }],
    },
    Mutant {
        name: "an object of an earlier life deleted before its PUT arrives",
        edits: &[Edit { file: "tier.rs", find: "let gone = now + policy.delete_grace;", replace: "let gone = now;" }],
    },
    Mutant {
        name: "a producer's batch not remembered",
        edits: &[Edit {
            file: "state/partition.rs",
            find: "        if batch.producer_id() >= 0 {\n            self.producers",
            replace: "        if batch.producer_id() >= 0 && index % 8 != 0 {\n            self.producers",
        }],
    },
    Mutant {
        name: "objects forgotten that more than one index object refers to",
        edits: &[Edit { file: "state/folds.rs", find: "known.runs == refs", replace: "known.runs >= refs" }],
    },
    Mutant {
        name: "what a fold lists not counted again when it is opened",
        edits: &[Edit {
            file: "state/folds.rs",
            find: "            self.segments.entry(*name).or_insert(known);\n",
            replace: "            let _ = (known, name);\n",
        }],
    },
    Mutant {
        name: "a log start that later checkpoints do not say",
        edits: &[Edit {
            file: "state/manifest.rs",
            find: "        state.set_log_start(log_start);\n        state.changed = Changed(index);\n",
            replace: "        state.set_log_start(log_start);\n",
        }],
    },
    Mutant {
        name: "no fdatasync",
        edits: &[Edit {
            file: "wal/writer.rs",
            find: "        if let Err(error) = file.handle.sync_data() {\n            return Err(WriteError::NotSynced(error));\n        }\n",
            replace: "",
        }],
    },
    Mutant {
        name: "the log start not kept",
        edits: &[Edit {
            file: "state/manifest.rs",
            find: "        state.set_log_start(log_start);\n",
            replace: "        if index % 4 != 0 {\n            state.set_log_start(log_start);\n        }\n",
        }],
    },
];
