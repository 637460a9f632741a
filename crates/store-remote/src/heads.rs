//! One question for the head at a time, shared by all who wait.
//!
//! Every read through a view asks for the head. An answer may be given to whoever asked before the question was sent, and
//! to nobody else: a commit may have happened meanwhile. So those who come while a question is on its way share the next.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use store::{ReadError, Revision};

type Answer = Result<Revision, ReadError>;
type Question = Shared<BoxFuture<'static, Answer>>;

/// Shares questions.
#[derive(Default)]
pub(crate) struct Heads {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Held while a question is on its way.
    turn: tokio::sync::Mutex<()>,
    /// The question that is not sent yet.
    next: Mutex<Option<Question>>,
}

impl Heads {
    /// The answer to a question that is sent after this call; `ask` sends one. May be dropped while it waits: the others
    /// who wait carry the question on.
    pub(crate) async fn ask(&self, ask: impl FnOnce() -> BoxFuture<'static, Answer> + Send + 'static) -> Answer {
        let question = self.state.next.lock().get_or_insert_with(|| question(Arc::clone(&self.state), ask)).clone();
        question.await
    }
}

fn question(state: Arc<State>, ask: impl FnOnce() -> BoxFuture<'static, Answer> + Send + 'static) -> Question {
    let asking = async move {
        let _turn = state.turn.lock().await;
        // Whoever comes from here on is too late for this one.
        *state.next.lock() = None;
        ask().await
    };
    asking.boxed().shared()
}
