//! `tidemark storage inspect`: what a file of the write-ahead log or an object of the bucket holds, for a person.
//!
//! All checksums are checked on the way; what is wrong is said in its place, and the rest is shown.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use tidemark_model::batch::HEADER_LEN;
use tidemark_segment::{Checkpoint, FormatError, Holder, IndexObject, MetadataSnapshot, SegmentIndex};

use crate::entry::{Children, Content, Entry, Fold, Run};
use crate::state::State;
use crate::wal::format::{FILE_HEADER_LEN, FileHeader, frames};

/// Lines of one list, when not all are asked for.
const FEW: usize = 20;
/// Longest value of a metadata snapshot that is shown.
const MAX_VALUE: usize = 200;

/// What the bytes are.
const WAL: &[u8] = crate::wal::format::MAGIC;
const SEGMENT: &[u8] = b"TIDEMSEG";
const CHECKPOINT: &[u8] = b"TIDECKPT";
const INDEX: &[u8] = b"TIDEINDX";
const SNAPSHOT: &[u8] = b"TIDEMETA";
const CLAIM: &[u8] = b"tidemark";

/// Describes the bytes of a whole file or object. `all`: every line of every list, not only the first.
pub fn inspect(bytes: &Bytes, all: bool) -> Result<String, String> {
    let mut page = Page { text: String::new(), few: if all { usize::MAX } else { FEW } };
    let magic = bytes.get(..8).unwrap_or_default();
    let written = match magic {
        WAL => page.wal(bytes),
        SEGMENT => page.segment(bytes),
        CHECKPOINT => page.checkpoint(bytes),
        INDEX => page.index(bytes),
        SNAPSHOT => page.snapshot(bytes),
        CLAIM => page.claim(bytes),
        _ => {
            return Err(
                "no file of the write-ahead log, segment, index object, checkpoint, metadata snapshot or claim".into(),
            );
        }
    };
    // Writing to a string cannot fail.
    written.map_err(|error| error.to_string())?;
    Ok(page.text)
}

struct Page {
    text: String,
    few: usize,
}

impl Page {
    fn wal(&mut self, bytes: &Bytes) -> fmt::Result {
        let header = match FileHeader::decode(bytes) {
            Ok(header) => header,
            Err(error) => return writeln!(self.text, "a file of the write-ahead log: {error}"),
        };
        let FileHeader { journal, wal_incarnation, sequence, first_index, previous_checksum: _ } = header;
        writeln!(self.text, "write-ahead log of journal {journal}, incarnation {wal_incarnation:016x}")?;
        writeln!(self.text, "file {sequence} of the log, entries from {first_index} on, {} bytes", bytes.len())?;
        let (mut position, mut count, mut groups) = (FILE_HEADER_LEN as u64, 0, 0);
        for (begin, frame) in frames(bytes, &header) {
            groups += usize::from(frame.place_in_group == 0);
            if count < self.few {
                let entry = frame.decode(&bytes.slice(begin as usize..));
                let what = entry.as_ref().map_or_else(ToString::to_string, describe);
                let id = frame.id;
                writeln!(self.text, "  {begin:>10}  {}/{}  {} bytes  {what}", id.epoch, id.index, frame.length)?;
            }
            count += 1;
            position = begin + u64::from(frame.length);
        }
        self.more(count)?;
        let left = bytes.get(position as usize..).unwrap_or_default().iter().filter(|byte| **byte != 0).count();
        writeln!(self.text, "{count} entries in {groups} groups, the last ends at {position}")?;
        match left {
            0 => writeln!(self.text, "zeros follow"),
            left => {
                writeln!(self.text, "{left} bytes that are not zero follow: of an earlier use of the file, or torn")
            }
        }
    }

    fn segment(&mut self, bytes: &Bytes) -> fmt::Result {
        let size = bytes.len() as u64;
        let index = match SegmentIndex::parse(bytes, size) {
            Ok(index) => index,
            Err(error) => return writeln!(self.text, "a segment of {size} bytes: {error}"),
        };
        let SegmentIndex { journal, name, runs } = &index;
        writeln!(self.text, "segment of journal {journal}, {size} bytes: {name}")?;
        let (epoch, first, last) = (name.epoch, name.first_index, name.last_index);
        writeln!(self.text, "written in epoch {epoch}, of entries {first} to {last}, {} runs", runs.len())?;
        let mut damaged = 0;
        for (n, run) in runs.iter().enumerate() {
            let checked = run.blocks_span(0..run.blocks.len()).ok_or(FormatError::Magic("run")).and_then(|span| {
                let range = span.bytes.start as usize..span.bytes.end as usize;
                run.decode(&span, &bytes.get(range.clone()).map_or_else(Bytes::new, |_| bytes.slice(range)))
            });
            damaged += usize::from(checked.is_err());
            if n < self.few || checked.is_err() {
                let (at, first, last) = (run.partition, run.first_offset, run.last_offset);
                let (position, length, blocks, time) = (run.position, run.length, run.blocks.len(), run.max_timestamp);
                write!(
                    self.text,
                    "  {at}  offsets {first} to {last}  {length} bytes at {position} in {blocks} blocks"
                )?;
                write!(self.text, "  up to time {time}  epochs ")?;
                for epoch in &run.epochs {
                    write!(self.text, "{} from {} ", epoch.leader_epoch, epoch.start_offset)?;
                }
                match checked {
                    Ok(batches) => writeln!(self.text, " {} batches", batches.len())?,
                    Err(error) => writeln!(self.text, " DAMAGED: {error}")?,
                }
            }
        }
        self.more(runs.len())?;
        match damaged {
            0 => writeln!(self.text, "all checksums match"),
            damaged => writeln!(self.text, "{damaged} runs are damaged"),
        }
    }

    fn index(&mut self, bytes: &Bytes) -> fmt::Result {
        let object = match IndexObject::parse(bytes) {
            Ok(object) => object,
            Err(error) => return writeln!(self.text, "an index object of {} bytes: {error}", bytes.len()),
        };
        let IndexObject { journal, name, sections } = &object;
        writeln!(self.text, "index object of journal {journal}, {} bytes: {name}", bytes.len())?;
        writeln!(self.text, "{} partitions:", sections.len())?;
        for (section, (position, length)) in sections.iter().zip(object.places()).take(self.few) {
            writeln!(self.text, "  {}  {length} bytes at {position}", section.partition)?;
            let content = match Content::decode(&section.content) {
                Ok(content) => content,
                Err(error) => {
                    writeln!(self.text, "    DAMAGED: {error}")?;
                    continue;
                }
            };
            let (objects, count) = (content.objects.len(), content.children.len());
            let of = match content.children {
                Children::Runs(_) => "runs",
                Children::Folds(_) => "folds",
            };
            writeln!(self.text, "    {count} {of} with {} bytes in {objects} objects:", content.children.bytes())?;
            match &content.children {
                Children::Runs(runs) => self.runs(runs)?,
                Children::Folds(folds) => self.folds(folds)?,
            }
        }
        self.more(sections.len())
    }

    fn runs(&mut self, runs: &[Run]) -> fmt::Result {
        for run in runs.iter().take(self.few) {
            let Run { segment, first_offset, last_offset, position, length, .. } = run;
            writeln!(self.text, "    {first_offset} to {last_offset}: {length} bytes at {position} of {segment}")?;
        }
        self.etc(runs.len())
    }

    fn folds(&mut self, folds: &[Fold]) -> fmt::Result {
        for fold in folds.iter().take(self.few) {
            let Fold { object, level, position, length, last_offset, bytes, .. } = fold;
            write!(self.text, "    {} to {last_offset}: folded, {bytes} bytes of runs", fold.begins())?;
            writeln!(self.text, ", level {level}, {length} bytes at {position} of {object}")?;
        }
        self.etc(folds.len())
    }

    fn etc(&mut self, count: usize) -> fmt::Result {
        if count > self.few { writeln!(self.text, "    …") } else { Ok(()) }
    }

    fn checkpoint(&mut self, bytes: &Bytes) -> fmt::Result {
        let checkpoint = match Checkpoint::parse(bytes) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return writeln!(self.text, "a checkpoint of {} bytes: {error}", bytes.len()),
        };
        let (journal, name) = (checkpoint.journal, checkpoint.name);
        writeln!(self.text, "checkpoint of journal {journal} as of entry {}/{}", name.epoch, name.index)?;
        let bases = checkpoint.bases.len();
        match checkpoint.bases.last() {
            None => writeln!(self.text, "the whole state, {} bytes", checkpoint.state.len())?,
            Some(last) => writeln!(
                self.text,
                "what changed since {}, {} bytes, on top of that and {} earlier ones",
                last.name,
                checkpoint.state.len(),
                bases - 1
            )?,
        }
        let mut state = State::default();
        if let Err(error) = state.merge(&checkpoint.state) {
            return writeln!(self.text, "its state: {error}");
        }
        writeln!(self.text, "tiered through entry {}", state.tiered_through)?;
        let live: u64 = state.segments.values().map(|segment| segment.live).sum();
        writeln!(self.text, "{} segments with {live} bytes alive:", state.segments.len())?;
        for (name, segment) in state.segments.iter().take(self.few) {
            let (runs, live, data) = (segment.runs, segment.live, segment.data);
            writeln!(self.text, "  {name}  {runs} runs, {live} of {data} bytes alive")?;
        }
        self.more(state.segments.len())?;
        writeln!(self.text, "{} intents, {} objects to be deleted", state.intents.len(), state.garbage.len())?;
        writeln!(self.text, "{} partitions:", state.partitions.len())?;
        for (at, partition) in state.partitions.iter().take(self.few) {
            let (start, end) = (partition.log_start, partition.high_watermark);
            let (runs, folds, producers) = (partition.runs.len(), partition.folds.len(), partition.producers.len());
            writeln!(self.text, "  {at}  offsets {start} to {end}, tiered to {}", partition.tiered_end())?;
            let epochs = partition.epochs.len();
            writeln!(self.text, "    {folds} folds, {runs} runs, {producers} producers, {epochs} leader epochs")?;
            self.folds(&partition.folds)?;
            self.runs(&partition.runs)?;
        }
        self.more(state.partitions.len())
    }

    fn snapshot(&mut self, bytes: &Bytes) -> fmt::Result {
        let MetadataSnapshot { revision, taken_ms, entries } = match MetadataSnapshot::parse(bytes) {
            Ok(snapshot) => snapshot,
            Err(error) => return writeln!(self.text, "a metadata snapshot of {} bytes: {error}", bytes.len()),
        };
        writeln!(self.text, "metadata snapshot, {} bytes, of revision {revision}, taken at {taken_ms}", bytes.len())?;
        writeln!(self.text, "{} entries:", entries.len())?;
        for (key, value) in entries.iter().take(self.few) {
            write!(self.text, "  {key}  {} bytes", value.len())?;
            // Most records are text; offsets of groups are not.
            match std::str::from_utf8(value) {
                Ok(text) if !text.contains(char::is_control) => {
                    let shown: String = text.chars().take(MAX_VALUE).collect();
                    writeln!(self.text, "  {shown}{}", if shown.len() < text.len() { "…" } else { "" })?;
                }
                _ => writeln!(self.text)?,
            }
        }
        self.more(entries.len())
    }

    fn claim(&mut self, bytes: &Bytes) -> fmt::Result {
        match Holder::parse(bytes) {
            Ok(holder) => writeln!(self.text, "claim to the bucket, of {holder}"),
            Err(error) => writeln!(self.text, "a claim to the bucket, {} bytes: {error}", bytes.len()),
        }
    }

    fn more(&mut self, count: usize) -> fmt::Result {
        match count.checked_sub(self.few) {
            Some(more) if more > 0 => writeln!(self.text, "  … and {more} more: see --all"),
            _ => Ok(()),
        }
    }
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Batch(entry) => {
            let (at, batch) = (entry.partition, &entry.batch);
            let bytes = batch.wire_len() - HEADER_LEN;
            let (base, last) = (batch.base_offset, batch.last_offset());
            let producer = match batch.producer_id() {
                id if id < 0 => String::new(),
                id => format!(", producer {id}/{} sequence {}", batch.producer_epoch(), batch.base_sequence()),
            };
            format!("batch of {at}: offsets {base} to {last}, {bytes} bytes of records{producer}")
        }
        Entry::ManifestEdited(edit) => {
            let (added, removed) = (edit.added.len(), edit.removed.len());
            let segment = edit.segment.map_or_else(|| "no segment".to_owned(), |(name, _)| name.to_string());
            format!("manifest edited: {added} runs for {removed}, {segment}, tiered through {}", edit.tiered_through)
        }
        Entry::SegmentIntended(name) => format!("segment intended: {name}"),
        Entry::CheckpointWritten(name) => format!("checkpoint written: {name}"),
        Entry::Folded(edit) => format!("folded: {} partitions, in {}", edit.parts.len(), edit.object),
        Entry::FoldOpened(opening) => {
            let (at, object, count) = (opening.partition, opening.object, opening.content.children.len());
            format!("fold of {at} opened: {count} of what {object} lists")
        }
        Entry::ObjectsDeleted(names) => format!("{} objects deleted", names.len()),
        Entry::LogStartsMoved(starts) => {
            format!("log starts of {} partitions moved at {}", starts.moves.len(), starts.time_ms)
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
