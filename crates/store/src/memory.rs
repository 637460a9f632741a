//! The smallest engine: a journal that keeps nothing. For tests of what stands above the store.

use async_trait::async_trait;
use world::World;

use crate::core::{Core, Pending};
use crate::engine::{AppendError, Engine, Journal};

/// A journal that forgets; what it "keeps" is only what the engine holds in memory.
#[derive(Debug, Default)]
pub struct Nowhere;

#[async_trait]
impl Journal for Nowhere {
    async fn append(&mut self, _group: &Pending) -> Result<(), AppendError> {
        Ok(())
    }
}

/// An empty store that lives as long as its handles, with its committer running in `world`.
pub fn open(world: &World) -> Engine {
    let (engine, committer) = Engine::new(Core::default(), Nowhere);
    world.spawn("store committer", async move {
        // A journal that keeps nothing cannot fail.
        let _never = committer.run().await;
    });
    engine
}
