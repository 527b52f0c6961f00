//! One module for each subcommand.

pub(crate) mod bench;
pub(crate) mod chaos;
pub(crate) mod compose;
pub(crate) mod conformance;
pub(crate) mod e2e;
pub(crate) mod example;
pub(crate) mod images;
pub(crate) mod integration;
pub(crate) mod sim;
pub(crate) mod test;
pub(crate) mod tools;
pub(crate) mod up;
