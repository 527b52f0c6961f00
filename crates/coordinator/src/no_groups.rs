//! Stands where the groups will be: this coordinator owns none yet, and says so.

use async_trait::async_trait;
use futures::future::{self, BoxFuture, FutureExt as _};
use tidemark_model::group::{GroupAnswer, GroupCall, ListedGroup};
use tidemark_model::{GroupCoordinator, GroupError};

use crate::Service;

#[async_trait]
impl GroupCoordinator for Service {
    fn call(&self, _call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        future::ready(Err(GroupError::NotCoordinator)).boxed()
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        Ok(Vec::new())
    }
}
