mod metrics;
pub mod store;
