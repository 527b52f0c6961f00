//! What the project's own tools are made of, for `cargo xtask` and for the end-to-end tests, which start the same
//! processes: commands of the machine, the outside servers we test with, and clusters to test.

pub mod check;
pub mod cluster;
pub mod docker;
pub mod machine;
pub mod process;
pub mod sh;
pub mod tools;
