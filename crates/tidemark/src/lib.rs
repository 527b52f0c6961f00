//! `tidemark standalone`: the four services in one process.
//!
//! They call each other through the same traits as in a cluster, without a hop between them ([`local`]). In place of
//! etcd there is a file, in place of the bucket a directory, both beside the write-ahead log. [`config`] says where and
//! how, [`standalone`] starts and stops them. [`inspect`] shows what they left on a disk or in a bucket, [`rebuild`] makes a
//! cluster of what is left in a bucket.

pub mod config;
pub mod inspect;
pub mod local;
pub mod rebuild;
pub mod standalone;

pub use config::Config;
