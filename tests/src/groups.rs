//! Whether consumer groups keep their promises while everything around them breaks.
//!
//! Members are processes of their own ([`member`], started by [`chaos`]) that write down what happens to them
//! ([`history`]); when all is over, [`check`] looks for what must not have happened.

pub mod chaos;
pub mod check;
pub mod history;
pub mod member;
