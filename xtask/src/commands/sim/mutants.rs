//! Bugs that are put in on purpose: what the simulation does not catch, it does not test.
//!
//! They are edits of a copy of the sources, so that nothing of them is in the product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::sh;

use super::simulation;

/// A bug.
struct Mutant {
    name: &'static str,
    /// Below `crates/storage/src`.
    edits: &'static [Edit],
}

struct Edit {
    file: &'static str,
    /// Is there once.
    find: &'static str,
    replace: &'static str,
}

const MUTANTS: &[Mutant] = &[
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
            find: "name.index.min(self.journal.lock().state.tiered_through) + 1",
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

/// Runs each mutant until a seed catches it.
pub(super) fn run(first: u64, seeds: u64, only: Option<&str>) -> Result<()> {
    let tree = sh::target_dir().join("mutants");
    copy(&sh::root(), &tree)?;
    let mut missed = Vec::new();
    let chosen = MUTANTS.iter().filter(|mutant| only.is_none_or(|part| mutant.name.contains(part)));
    for mutant in chosen {
        let began = Instant::now();
        let caught = attempt(mutant, &tree, first, seeds);
        // Whatever came of it, the next one begins with the sources as they are.
        copy(&sh::root(), &tree)?;
        match caught? {
            Some((seed, why)) => println!(
                "caught by seed {seed:>4}, {:>3} s: {}\n{:20}{}",
                began.elapsed().as_secs(),
                mutant.name,
                "",
                why.chars().take(160).collect::<String>()
            ),
            None => {
                println!("NOT caught by {seeds} seeds: {}", mutant.name);
                missed.push(mutant.name);
            }
        }
    }
    ensure!(missed.is_empty(), "the simulation does not see: {}", missed.join("; "));
    Ok(())
}

fn attempt(mutant: &Mutant, tree: &Path, first: u64, seeds: u64) -> Result<Option<(u64, String)>> {
    for edit in mutant.edits {
        let path = tree.join("crates/storage/src").join(edit.file);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, edited(&text, edit).with_context(|| format!("mutant {:?}", mutant.name))?)?;
    }
    let mut test = simulation(tree, first, seeds);
    // Of its own: the crates there have the names and paths of ours, and each would take the other's for built.
    test.env("CARGO_TARGET_DIR", tree.join("target")).env("RUST_BACKTRACE", "0");
    let output = test.output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(None);
    }
    match said.lines().find_map(failure) {
        Some(caught) => Ok(Some(caught)),
        None => bail!("the mutant {:?} does not run:\n{}", mutant.name, sh::last_lines(&said, 40)),
    }
}

fn edited(text: &str, edit: &Edit) -> Result<String> {
    let times = text.matches(edit.find).count();
    ensure!(times == 1, "{} has {times} times what is to be replaced:\n{}", edit.file, edit.find);
    Ok(text.replace(edit.find, edit.replace))
}

/// The seed and the reason in a line `seed N: reason`.
fn failure(line: &str) -> Option<(u64, String)> {
    let (seed, why) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some((seed.parse().ok()?, why.to_owned()))
}

/// Makes `to` the sources as they are in `from`, touching only what differs, so that little is built again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut list = Command::new("git");
    let listed = sh::quietly(list.current_dir(from).args(["ls-files", "-co", "--exclude-standard"]))?;
    for name in listed.lines() {
        let (source, copy) = (from.join(name), to.join(name));
        // One that is deleted and not committed yet.
        let Ok(bytes) = fs::read(&source) else { continue };
        if fs::read(&copy).is_ok_and(|there| there == bytes) {
            continue;
        }
        let dir: PathBuf = copy.parent().context("a file is in a directory")?.into();
        fs::create_dir_all(dir)?;
        fs::write(&copy, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_finds_its_place() {
        for mutant in MUTANTS {
            for edit in mutant.edits {
                let path = sh::root().join("crates/storage/src").join(edit.file);
                let text = fs::read_to_string(&path).expect("the file is there");
                edited(&text, edit).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
            }
        }
    }

    #[test]
    fn a_failing_seed_is_found_in_what_the_test_says() {
        assert_eq!(failure("seed 12: batch 3 is lost"), Some((12, "batch 3 is lost".into())));
        assert_eq!(failure("seed 12 failed. The end of its log:"), None);
    }
}
