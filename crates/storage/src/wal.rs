//! The write-ahead log: a journal's entries, in files of a directory.
//!
//! An append meets the modules in this order: the [`writer`] frames a group of entries ([`format`](mod@format)) in its
//! `staging`, writes it with one write into one of the [`files`] and makes it durable with one fdatasync. A [`recovery`] reads what is there
//! at the start; [`read`] takes single entries back out.

pub mod files;
pub mod format;
pub mod read;
pub mod recovery;
mod staging;
pub mod writer;

/// Where an entry is: by the sequence of its file, not the file, which may since have another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub sequence: u64,
    pub position: u64,
    /// Bytes of the entry, framing included.
    pub length: u32,
}
