//! Two processes of one name: one was stopped, replaced, and goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use ids::uuid::Uuid;
use rpc::{Channel, Target};
use telemetry::Cx;
use tokio::sync::Barrier;
use world::os::OsHost;

use store::Store;

use super::*;
use crate::record::{Accept, Epoch};
use crate::workflow::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime};

const NAME: &str = "one";
const BOUND: Duration = Duration::from_secs(30);

struct Nobody;

impl Peers for Nobody {
    fn channel(&self, target: &Target, _: &Cx) -> Channel {
        unreachable!("nothing here calls {target:?}")
    }
}

/// Both run it at the same time, and one of them is too late.
struct Together(Arc<Barrier>);

/// Whoever comes first is never seen again.
struct Once(AtomicUsize);

struct Ending;

#[async_trait]
impl Step<()> for Together {
    fn name(&self) -> &'static str {
        "together"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, _: &mut ()) -> Result<Advance, StepError> {
        let key = Key::from(format!("made/{}", cx.subject));
        if cx.view.peek(|reader| reader.entry(&key).is_none()) {
            self.0.wait().await;
        }
        let mut txn = Txn::new();
        txn.create(key, "");
        Ok(Advance::Done(txn))
    }

    async fn undo(&self, _: &StepCx, _: &mut ()) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

#[async_trait]
impl Step<()> for Arc<Once> {
    fn name(&self) -> &'static str {
        "once"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, _: &StepCx, _: &mut ()) -> Result<Advance, StepError> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            std::future::pending::<()>().await;
        }
        Ok(Advance::Done(Txn::new()))
    }

    async fn undo(&self, _: &StepCx, _: &mut ()) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

#[async_trait]
impl Conclusion<()> for Ending {
    async fn failing(&self, _: &StepCx, _: &mut (), _: &str) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }

    async fn ended(&self, _: &StepCx, _: &(), _: &Outcome, _: &[StepTime]) -> Result<Txn, StepError> {
        Ok(Txn::new())
    }
}

#[tokio::test]
async fn of_two_of_one_name_either_finishes_what_the_other_began() {
    let world = OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
    let store: Arc<dyn Store> = Arc::new(store::memory::open(&world));
    let view = View::open(&world, Arc::clone(&store), Vec::new()).await.unwrap();
    let (ring, peers) = (&Ring::new(&world, "test"), Arc::new(Nobody) as Arc<dyn Peers>);
    let (view, store) = (&view, &store);
    let (together, once) = (Arc::new(Barrier::new(2)), Arc::new(Once(AtomicUsize::new(0))));
    let workflows = || {
        let steps: Vec<Box<dyn Step<()>>> =
            vec![Box::new(Together(Arc::clone(&together))), Box::new(Arc::clone(&once))];
        vec![Workflow::new("test", 1, 2, steps, Ending)]
    };
    let start = || {
        let options = Options { owner: NAME.to_owned(), concurrent: 8 };
        Coordinator::start(view, ring, &peers, workflows(), options)
    };
    let accept = |id, kind, subject: &'static str| async move {
        let (id, subject, owner) = (WorkId::from_uuid(Uuid::from_u128(id)), subject.to_owned(), NAME.to_owned());
        let input = bytes::Bytes::new();
        let mut txn = Txn::new();
        let accept = Accept { id, kind, version: 1, subject, input, budget: BOUND, owner };
        accept.begin(&Cx::root(ring, None, ring.world().now() + BOUND), &mut txn);
        store.commit(txn).await.unwrap();
        id
    };
    let until = |what: &'static str, holds: fn(Option<Epoch>) -> bool, id: WorkId| async move {
        let holds = async {
            loop {
                let seen = view.revision();
                let epoch =
                    view.read(|reader| reader.get::<Work>(&id).unwrap().map(|(work, _)| work.epoch)).await.unwrap();
                if holds(epoch) {
                    return;
                }
                view.advanced(seen).await;
            }
        };
        ring.world().timeout(BOUND, holds).await.expect(what);
    };
    // One that nobody drives shows when both have begun.
    let shown = accept(1, "of another release", "other").await;
    let _both = [start(), start()];
    until("both have taken over what was there", |epoch| epoch == Some(Epoch::FIRST.raised().raised()), shown).await;
    // Accepted while both run: neither takes it over from the other.
    let work = accept(2, "test", "subject").await;
    until("the work ends, in the hands of the one that is left", |epoch| epoch.is_none(), work).await;
}
