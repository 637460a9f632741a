//! Two processes of one name: one was stopped, replaced, and goes on.

use async_trait::async_trait;
use ids::uuid::Uuid;
use rpc::{Channel, Target};
use telemetry::Cx;
use world::os::OsHost;

use store::Store;

use super::*;
use crate::name;
use crate::record::Accept;
use crate::workflow::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime};

const NAME: &str = "one";
const BOUND: Duration = Duration::from_secs(30);

struct Nobody;

impl Peers for Nobody {
    fn channel(&self, target: &Target, _: &Cx) -> Channel {
        unreachable!("nothing here calls {target:?}")
    }
}

/// Notes which process ran it.
struct Noted {
    by: &'static str,
    ran: Arc<Mutex<Vec<&'static str>>>,
}

struct Ending;

#[async_trait]
impl Step<()> for Noted {
    fn name(&self) -> &'static str {
        "noted"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, _: &StepCx, _: &mut ()) -> Result<Advance, StepError> {
        self.ran.lock().push(self.by);
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
async fn of_two_of_one_name_only_the_later_drives_what_it_is_given() {
    let world = OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
    let store: Arc<dyn Store> = Arc::new(store::memory::open(&world));
    let view = View::open(&world, Arc::clone(&store), Vec::new()).await.unwrap();
    let (ring, peers) = (Ring::new(&world, "test"), Arc::new(Nobody) as Arc<dyn Peers>);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let start = |by| {
        let steps: Vec<Box<dyn Step<()>>> = vec![Box::new(Noted { by, ran: Arc::clone(&ran) })];
        let options = Options { owner: NAME.to_owned(), concurrent: 8 };
        Coordinator::start(&view, &ring, &peers, vec![Workflow::new("test", 1, 1, steps, Ending)], options)
    };
    let until = async |what: &str, holds: &(dyn Fn(&store::Reader<'_>) -> bool + Sync)| {
        let holds = async {
            loop {
                let seen = view.revision();
                if view.read(|reader| holds(reader)).await.unwrap() {
                    return;
                }
                view.advanced(seen).await;
            }
        };
        world.timeout(BOUND, holds).await.expect(what);
    };
    let accept = async |number: u128, life: Life| {
        let id = WorkId::from_uuid(Uuid::from_u128(number));
        let (subject, owner) = (number.to_string(), NAME.to_owned());
        let accept =
            Accept { id, kind: "test", version: 1, subject, input: bytes::Bytes::new(), budget: BOUND, owner, life };
        let mut txn = Txn::new();
        accept.begin(&Cx::root(&ring, None, world.now() + BOUND), &mut txn);
        store.commit(txn).await.unwrap();
    };
    let first = start("first");
    until("the first takes the name", &|reader| name::present(reader, NAME) != Life::default()).await;
    let early = view.peek(|reader| name::present(reader, NAME));
    let second = start("second");
    until("the second takes it over", &|reader| name::present(reader, NAME) != early).await;
    let late = view.peek(|reader| name::present(reader, NAME));

    // The first does not know yet: what it was not given it reaches for in vain.
    for number in 1..=20 {
        accept(number, late).await;
    }
    until("all works end", &|reader| reader.all::<Work>().count() == 0).await;
    assert_eq!(*ran.lock(), vec!["second"; 20]);
    assert_eq!((first.life(), second.life()), (None, Some(late)), "the first has found out");
    // What the api gave to a life that is over is taken over.
    accept(21, early).await;
    until("that one ends too", &|reader| reader.all::<Work>().count() == 0).await;
    assert_eq!(ran.lock().last(), Some(&"second"));
}
