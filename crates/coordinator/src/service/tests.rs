//! Whole coordinators, several on one store, on the embedded store and on a real etcd.

mod backup;
mod groups;
mod harness;
mod journals;
mod maintenance;
mod nodes;
mod outage;
mod slots;
mod topics;

/// Runs a case on a store of this process, with tokio's clock paused, and on a real etcd.
macro_rules! on_both {
    ($cases:ident: $($case:ident;)*) => {
        mod embedded {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    let store = std::sync::Arc::new(crate::store::Embedded::in_memory().unwrap());
                    super::$cases::$case(store).await;
                }
            )*
        }
        mod real_etcd {
            $(
                #[tokio::test]
                async fn $case() {
                    let etcd = crate::store::contract::etcd::Etcd::start(stringify!($case)).await;
                    if let Some(etcd) = etcd {
                        super::$cases::$case(etcd.store().await).await;
                    }
                }
            )*
        }
    };
}

use on_both;
