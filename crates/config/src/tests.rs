//! The configuration over a real engine: refusals, history, rollback, unknown outcomes, and a model of all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use proptest::prelude::*;
use store::port::Snapshot;
use store::{
    CommitError, Entry, Key, KeyRange, Page, ReadError, Record, Revision, Store, Txn, View, Watch, WatchError,
};
use world::World;

use crate::Changed;
use crate::change::{Error, change};
use crate::document::{Document, Held, Slot};
use crate::plan::{HISTORY_MAX, LINES_MAX, Wish};
use crate::scope::Scope;
use crate::source::{self, Source};
use crate::stored::{Change, Set};

struct Cell {
    world: World,
    view: Arc<View>,
}

async fn over(store: impl FnOnce(&World) -> Arc<dyn Store>) -> Cell {
    let runtime = tokio::runtime::Handle::current();
    let world = world::os::OsHost::world(runtime, std::path::Path::new("/nonexistent"));
    let view = View::open(&world, store(&world), Vec::new()).await.unwrap();
    Cell { world, view }
}

async fn cell() -> Cell {
    over(|world| Arc::new(store::memory::open(world))).await
}

fn slot(key: &str, scope: &str) -> Slot {
    Slot { key: key.into(), scope: Scope::from_text(scope) }
}

impl Cell {
    async fn wish(&self, wish: Wish) -> Result<Changed, Error> {
        change(&self.world, &self.view, "operator/admin", &wish).await
    }

    async fn set(&self, key: &str, scope: &str, text: &str) -> Result<u64, Error> {
        self.wish(Wish::Set(slot(key, scope), text.into())).await.map(|changed| changed.revision)
    }

    async fn unset(&self, key: &str, scope: &str) -> Result<u64, Error> {
        self.wish(Wish::Unset(slot(key, scope))).await.map(|changed| changed.revision)
    }

    async fn back(&self, revision: u64) -> Result<u64, Error> {
        self.wish(Wish::RollBack(revision)).await.map(|changed| changed.revision)
    }

    fn document(&self) -> Document {
        self.view.peek(source::document)
    }

    /// What is set, as `key@scope=value`.
    fn shown(&self) -> Vec<String> {
        self.document().values.iter().map(|(slot, held)| format!("{slot}={}", held.text)).collect()
    }

    fn history(&self) -> Vec<(Change, u64)> {
        let history = self.view.peek(source::history).unwrap();
        history.into_iter().map(|(change, revision)| (change, revision.as_u64())).collect()
    }

    /// Writes something that is no configuration.
    async fn elsewhere(&self, name: &str) -> u64 {
        let mut txn = Txn::new();
        txn.create(Key::from(name), "x");
        let revision = self.view.store().commit(txn).await.unwrap();
        self.view.reach(revision).await.unwrap();
        revision.as_u64()
    }
}

#[track_caller]
fn refused(result: Result<u64, Error>, parts: &[&str]) {
    let error = result.expect_err("refused");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[tokio::test]
async fn a_refusal_says_what_is_allowed_and_changes_nothing() {
    let cell = cell().await;
    let tries: [(&str, &str, &str, &[&str]); 10] = [
        ("compute.vpcu_ratio", "cell", "2", &["no key \"compute.vpcu_ratio\"", "did you mean compute.vcpu_ratio?"]),
        ("colour", "cell", "red", &["no key \"colour\"", "config get --all"]),
        ("compute.vcpu_ratio", "cell", "900", &["compute.vcpu_ratio cannot be \"900\"", "a ratio from 0.1 to 64"]),
        ("compute.vcpu_ratio", "cell", "much", &["a ratio from 0.1 to 64"]),
        ("liveness.grace_ms", "cell", "5", &["a whole number of milliseconds from 1000 to 60000"]),
        ("log.level", "cell", "loud", &["one of off, error, warn, info, debug, trace"]),
        ("compute.vcpu_ratio", "role/agent", "2", &["a role", "can be set for the cell, a zone or a node"]),
        ("dns.ttl_seconds", "node/n1", "2", &["a node", "can be set for the cell"]),
        ("compute.vcpu_ratio", "node/", "2", &["names nothing"]),
        ("compute.vcpu_ratio", "planet/mars", "2", &["cannot be set for planet/mars"]),
    ];
    for (key, scope, text, parts) in tries {
        refused(cell.set(key, scope, text).await, parts);
    }
    refused(cell.unset("colour", "cell").await, &["no key"]);
    refused(cell.back(7).await, &["revision 7 is still to come", "the store is at 0"]);
    assert_eq!((cell.document(), cell.history()), (Document::default(), Vec::new()));
}

#[tokio::test]
async fn a_change_is_remembered_and_what_is_so_already_is_none() {
    let cell = cell().await;
    let first = cell.set("compute.vcpu_ratio", "cell", "8.0").await.unwrap();
    cell.elsewhere("a").await;
    assert_eq!(cell.document().revision, first, "other writes do not move it");
    assert_eq!(cell.set("compute.vcpu_ratio", "cell", "8").await.unwrap(), first);
    assert_eq!(cell.unset("compute.vcpu_ratio", "node/n1").await.unwrap(), first);
    let second = cell.set("compute.vcpu_ratio", "node/n1", "1.5").await.unwrap();
    let third = cell.unset("compute.vcpu_ratio", "cell").await.unwrap();
    assert_eq!(cell.shown(), ["compute.vcpu_ratio@node/n1=1.5"]);

    let history = cell.history();
    let revisions: Vec<u64> = history.iter().map(|(_, revision)| *revision).collect();
    assert_eq!(revisions, [first, second, third]);
    let (last, _) = &history[2];
    assert_eq!((last.number, last.who.as_str(), last.rolled_back_to), (3, "operator/admin", None));
    let line = &last.lines[0];
    assert_eq!((line.slot.to_string().as_str(), &line.new), ("compute.vcpu_ratio@cell", &None));
    assert_eq!(line.old, Some(Held { schema: 1, text: "8".into() }));
    let told = crate::wire::decode(&crate::wire::encode(&cell.document()));
    assert_eq!(told, Ok(cell.document()));
}

#[tokio::test]
async fn a_rollback_restores_what_was_and_is_a_change_itself() {
    let cell = cell().await;
    cell.set("rpc.calls_max", "cell", "100").await.unwrap();
    let then = cell.set("rpc.calls_max", "role/api", "200").await.unwrap();
    let between = cell.elsewhere("a").await;
    let before = cell.shown();
    cell.set("rpc.calls_max", "cell", "300").await.unwrap();
    cell.unset("rpc.calls_max", "role/api").await.unwrap();
    cell.set("log.level", "cell", "debug").await.unwrap();
    let after = cell.shown();
    let newest = cell.document().revision;

    let rolled = cell.back(between).await.unwrap();
    assert_eq!((cell.shown(), cell.document().revision), (before.clone(), rolled));
    let (change, _) = cell.history().pop().unwrap();
    assert_eq!((change.rolled_back_to, change.lines.len()), (Some(between), 3));
    assert_eq!(cell.back(then).await.unwrap(), rolled, "it is so already");
    cell.back(newest).await.unwrap();
    assert_eq!(cell.shown(), after, "a rollback is rolled back as any other change");
    cell.back(0).await.unwrap();
    assert_eq!(cell.shown(), Vec::<String>::new());
}

#[tokio::test]
async fn the_history_is_bounded_and_a_rollback_beyond_it_is_refused() {
    let cell = cell().await;
    let mut revisions = Vec::new();
    for number in 0..HISTORY_MAX + 5 {
        let text = (100 + number).to_string();
        revisions.push(cell.set("rpc.calls_max", "cell", &text).await.unwrap());
    }
    let history = cell.history();
    assert_eq!((history.len() as u64, history[0].0.number), (HISTORY_MAX, 6));
    refused(cell.back(revisions[3]).await, &["reaches back to revision", &format!(": {} is older", revisions[3])]);
    cell.back(revisions[4]).await.unwrap();
    assert_eq!(cell.shown(), ["rpc.calls_max@cell=104"]);
}

#[tokio::test]
async fn a_rollback_that_no_transaction_holds_is_refused_whole() {
    let cell = cell().await;
    for number in 0..LINES_MAX {
        cell.set("compute.vcpu_ratio", &format!("node/n{number}"), "2").await.unwrap();
    }
    let most = cell.document();
    cell.set("compute.vcpu_ratio", "node/more", "2").await.unwrap();
    let before = cell.document();
    refused(cell.back(0).await, &["97 values differ", "one change can touch 96"]);
    assert_eq!(cell.document(), before);
    cell.back(most.revision).await.unwrap();
    cell.back(0).await.unwrap();
    assert_eq!(cell.shown(), Vec::<String>::new());
}

#[tokio::test]
async fn what_another_release_wrote_is_kept_shown_and_can_be_removed() {
    let cell = cell().await;
    let mut txn = Txn::new();
    for (key, scope) in [("rpc.calls_max", "cell"), ("rpc.colour", "planet/mars")] {
        let set = Set { slot: slot(key, scope), held: Held { schema: 9, text: "red".into() } };
        txn.create(set.key(), set.encode());
    }
    let revision = cell.view.store().commit(txn).await.unwrap();
    cell.view.reach(revision).await.unwrap();
    let newer = ["rpc.calls_max@cell=red", "rpc.colour@planet/mars=red"];
    assert_eq!(cell.shown(), newer);
    let settings = crate::Settings::defaults();
    let revision = cell.set("log.level", "cell", "debug").await.unwrap();
    settings.take(cell.document());
    assert_eq!((settings.get(&crate::keys::CALLS_MAX), settings.get(&crate::keys::LOG_LEVEL)), (4096, "debug"));
    cell.unset("rpc.colour", "planet/mars").await.unwrap();
    cell.back(revision).await.unwrap();
    assert_eq!(cell.shown().len(), 3, "a rollback brings it back as it was");
}

#[tokio::test]
async fn a_source_tells_every_newest_document_and_nothing_else() {
    let cell = cell().await;
    let mut source = Source::new(&cell.view);
    assert_eq!(source.next().await, Document::default());
    cell.elsewhere("a").await;
    assert_eq!(source.next().now_or_never(), None);
    cell.set("log.level", "cell", "debug").await.unwrap();
    let newest = cell.set("log.level", "cell", "warn").await.unwrap();
    let told = source.next().await;
    assert_eq!((told.revision, told), (newest, cell.document()));
    assert_eq!(source.next().now_or_never(), None);
}

/// A store that, every other time, does what it is told and then says that it does not know.
struct Forgetful(Arc<dyn Store>, AtomicUsize);

#[async_trait]
impl Store for Forgetful {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.0.get(key).await
    }
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.0.range(range, limit).await
    }
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.0.watch(range, after).await
    }
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.0.snapshot().await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let result = self.0.commit(txn).await;
        let forgets = self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if forgets { Err(CommitError::Unknown { reason: "forgotten".into() }) } else { result }
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_decided_by_committing_again() {
    let cell = over(|world| Arc::new(Forgetful(Arc::new(store::memory::open(world)), 0.into()))).await;
    let changed = cell.wish(Wish::Set(slot("log.level", "cell"), "debug".into())).await.unwrap();
    assert_eq!((changed.lines.len(), changed.revision), (1, cell.document().revision));
    cell.unset("log.level", "cell").await.unwrap();
    cell.back(changed.revision).await.unwrap();
    assert_eq!(cell.shown(), ["log.level@cell=debug"]);
    assert_eq!(cell.history().len(), 3, "each happened once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_race_all_happen_once() {
    let cell = Arc::new(cell().await);
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..20 {
        let cell = Arc::clone(&cell);
        racing.spawn(async move { cell.set("compute.vcpu_ratio", &format!("node/n{number}"), "2").await.unwrap() });
    }
    let mut revisions = racing.join_all().await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!((revisions.len(), cell.history().len(), cell.document().values.len()), (20, 20, 20));
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, u8),
    Unset(u8),
    Back(prop::sample::Index),
    Elsewhere,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..4_u8, 0..3_u8).prop_map(|(place, value)| Act::Set(place, value)),
        2 => (0..4_u8).prop_map(Act::Unset),
        1 => any::<prop::sample::Index>().prop_map(Act::Back),
        1 => Just(Act::Elsewhere),
    ];
    prop::collection::vec(act, 1..40)
}

const PLACES: [&str; 4] = ["cell", "zone/z", "role/api", "node/n"];

/// Plays `acts` on a cell and on a map, and asks after each whether both show the same; every revision may be gone back to.
async fn play(acts: Vec<Act>) {
    let cell = cell().await;
    let mut states = vec![BTreeMap::new()];
    for (step, act) in acts.into_iter().enumerate() {
        let before = states.len() as u64 - 1;
        let mut state: BTreeMap<Slot, String> = states.last().cloned().unwrap_or_default();
        let at = |place: u8| slot("rpc.calls_max", PLACES[usize::from(place)]);
        match act {
            Act::Set(place, value) => {
                let text = (100 + u64::from(value)).to_string();
                state.insert(at(place), text.clone());
                cell.wish(Wish::Set(at(place), text)).await.unwrap();
            }
            Act::Unset(place) => {
                state.remove(&at(place));
                cell.wish(Wish::Unset(at(place))).await.unwrap();
            }
            Act::Back(index) => {
                let to = index.index(states.len());
                state = states[to].clone();
                cell.back(to as u64).await.unwrap();
            }
            Act::Elsewhere => drop(cell.elsewhere(&format!("x{step}")).await),
        }
        // A revision for each change, and none for what was so already.
        if cell.view.revision().as_u64() > before {
            states.push(state.clone());
        }
        assert_eq!(cell.view.revision().as_u64(), states.len() as u64 - 1);
        let shown: BTreeMap<Slot, String> =
            cell.document().values.into_iter().map(|(slot, held)| (slot, held.text)).collect();
        assert_eq!(shown, state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_the_model(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(acts));
    }
}
