//! The configuration, as operators see and change it.

use config::change::Error;
use config::document::understand;
use config::explain::Explanation;
use config::stored::{Change, Line};
use config::{Changed, Document, Place, Scope, Slot, Spec, Wish, keys, plan, source};
use pki::Identity;
use proto::operator::v1 as wire;
use store::Reader;
use tonic::Status;

use super::{Inner, unavailable};

fn refused(refusal: &plan::Refusal) -> Status {
    Status::invalid_argument(refusal.to_string())
}

fn failed(error: Error) -> Status {
    match error {
        Error::Refused(refusal) => refused(&refusal),
        Error::Damaged(error) => Status::failed_precondition(format!("the configuration cannot be changed: {error}")),
        Error::Commit(store::CommitError::Unknown { reason }) => {
            rpc::Error::unknown(format!("whether the change was made is not known ({reason}); ask for it again")).into()
        }
        Error::Commit(error) => unavailable(error),
        Error::Read(error) => unavailable(error),
    }
}

fn slot(key: String, scope: &str) -> Slot {
    Slot { key, scope: Scope::from_text(scope) }
}

/// What is set, and with `all` also what is not.
pub(super) async fn get(inner: &Inner, asked: &wire::GetConfigRequest) -> Result<wire::GetConfigResponse, Status> {
    let document = inner.view.read(source::document).await.map_err(unavailable)?;
    let only = |key: &str| asked.key.is_empty() || asked.key == key;
    let mut values: Vec<_> =
        document.values.iter().filter(|(slot, _)| only(&slot.key)).map(|(slot, held)| value(slot, held)).collect();
    // What another release has set can be looked at; any other name must be one that is known.
    if values.is_empty() && !asked.key.is_empty() {
        plan::known(&asked.key).map_err(|refusal| refused(&refusal))?;
    }
    let nothing_for_the_cell = |spec: &&&Spec| {
        let of_cell = Slot { key: spec.name.to_owned(), scope: Scope::Cell };
        only(spec.name) && document.values.get(&of_cell).is_none_or(|held| understand(&of_cell, held).is_err())
    };
    if asked.all || !asked.key.is_empty() {
        values.extend(keys::TABLE.iter().filter(nothing_for_the_cell).map(|spec| default(spec)));
    }
    values.sort_by(|one, two| (&one.key, Scope::from_text(&one.scope)).cmp(&(&two.key, Scope::from_text(&two.scope))));
    Ok(wire::GetConfigResponse { revision: document.revision, values })
}

fn value(slot: &Slot, held: &config::Held) -> wire::ConfigValue {
    wire::ConfigValue {
        key: slot.key.clone(),
        scope: slot.scope.to_string(),
        value: held.text.clone(),
        unit: keys::find(&slot.key).map(|spec| spec.kind.unit().to_owned()).unwrap_or_default(),
        schema: held.schema,
        unapplied: understand(slot, held).err().map(|why| why.to_string()).unwrap_or_default(),
    }
}

fn default(spec: &Spec) -> wire::ConfigValue {
    wire::ConfigValue {
        key: spec.name.to_owned(),
        scope: String::new(),
        value: spec.kind.write(&spec.default()),
        unit: spec.kind.unit().to_owned(),
        schema: spec.schema,
        unapplied: String::new(),
    }
}

pub(super) async fn set(
    inner: &Inner,
    who: &Identity,
    asked: wire::SetConfigRequest,
) -> Result<wire::SetConfigResponse, Status> {
    let slot = slot(asked.key, &asked.scope);
    let changed = change(inner, who, &Wish::Set(slot.clone(), asked.value)).await?;
    let (changes, revision) = told(inner, who, changed, None);
    let note = inner.view.peek(|reader| note(reader, &slot.scope)).unwrap_or_default();
    Ok(wire::SetConfigResponse { revision, changes, note })
}

/// A name that nothing has yet may be a slip, or be ahead of what is to come.
fn note(reader: &Reader<'_>, scope: &Scope) -> Option<String> {
    let mut nodes = reader.all::<placement::Node>().filter_map(Result::ok).map(|(node, _)| node);
    match scope {
        Scope::Node(name) => (!nodes.any(|node| node.name == *name)).then(|| format!("no node is named {name} yet")),
        Scope::Zone(name) => (!nodes.any(|node| node.zone == *name)).then(|| format!("no node is in zone {name} yet")),
        Scope::Cell | Scope::Role(_) | Scope::Other(_) => None,
    }
}

pub(super) async fn unset(
    inner: &Inner,
    who: &Identity,
    asked: wire::UnsetConfigRequest,
) -> Result<wire::UnsetConfigResponse, Status> {
    let changed = change(inner, who, &Wish::Unset(slot(asked.key, &asked.scope))).await?;
    let (changes, revision) = told(inner, who, changed, None);
    Ok(wire::UnsetConfigResponse { revision, changes })
}

pub(super) async fn roll_back(inner: &Inner, who: &Identity, to: u64) -> Result<wire::RollbackConfigResponse, Status> {
    let changed = change(inner, who, &Wish::RollBack(to)).await?;
    let (changes, revision) = told(inner, who, changed, Some(to));
    Ok(wire::RollbackConfigResponse { revision, changes })
}

async fn change(inner: &Inner, who: &Identity, wish: &Wish) -> Result<Changed, Status> {
    let changed = config::change(inner.ring.world(), &inner.view, &who.to_string(), wish).await.map_err(failed)?;
    for line in &changed.lines {
        let text = |held: &Option<config::Held>| held.as_ref().map_or("-".to_owned(), |held| held.text.clone());
        let (slot, old, new) = (&line.slot, text(&line.old), text(&line.new));
        tracing::info!(%slot, old, new, %who, revision = changed.revision, "the configuration was changed");
    }
    Ok(changed)
}

fn told(inner: &Inner, who: &Identity, changed: Changed, back_to: Option<u64>) -> (Vec<wire::ConfigChange>, u64) {
    let at = inner.ring.world().wall().as_micros();
    let (who, revision) = (who.to_string(), changed.revision);
    let lines = changed.lines.into_iter().map(|line| described(line, revision, at, &who, back_to));
    (lines.collect(), revision)
}

fn described(line: Line, revision: u64, at_us: u64, who: &str, rolled_back_to: Option<u64>) -> wire::ConfigChange {
    wire::ConfigChange {
        revision,
        at_us,
        who: who.to_owned(),
        key: line.slot.key,
        scope: line.slot.scope.to_string(),
        old: line.old.map(|held| held.text),
        new: line.new.map(|held| held.text),
        rolled_back_to,
    }
}

pub(super) async fn history(inner: &Inner, key: &str) -> Result<wire::ConfigHistoryResponse, Status> {
    let read = |reader: &Reader<'_>| Ok::<_, store::DecodeError>((source::history(reader)?, source::reaches(reader)?));
    let read = inner.view.read(read).await.map_err(unavailable)?;
    let (history, reaches) = read.map_err(|error| Status::failed_precondition(error.to_string()))?;
    let lines = history.into_iter().rev().flat_map(|(change, revision)| {
        let Change { at, who, lines, rolled_back_to, .. } = change;
        let revision = revision.as_u64();
        lines.into_iter().map(move |line| described(line, revision, at.as_micros(), &who, rolled_back_to))
    });
    let changes: Vec<_> = lines.filter(|line| key.is_empty() || line.key == key).collect();
    // A key of another release may stand in the history; any other name must be one that is known.
    if changes.is_empty() && !key.is_empty() {
        plan::known(key).map_err(|refusal| refused(&refusal))?;
    }
    Ok(wire::ConfigHistoryResponse { changes, reaches: reaches.as_u64() })
}

pub(super) async fn explain(
    inner: &Inner,
    asked: &wire::ExplainConfigRequest,
) -> Result<wire::ExplainConfigResponse, Status> {
    let spec = plan::known(&asked.key).map_err(|refusal| refused(&refusal))?;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let role = given(&asked.role).map(|role| role.parse()).transpose().map_err(Status::invalid_argument)?;
    let read = |reader: &Reader<'_>| {
        let zone = || reader.get::<placement::Node>(&asked.node).ok().flatten().map(|(node, _)| node.zone);
        (source::document(reader), given(&asked.zone).or_else(zone))
    };
    let (document, zone) = inner.view.read(read).await.map_err(unavailable)?;
    let place = Place { zone, roles: role.into_iter().collect(), node: given(&asked.node) };
    Ok(explained(&document, spec, place))
}

fn explained(document: &Document, spec: &Spec, place: Place) -> wire::ExplainConfigResponse {
    let Explanation { value, winner, layers } = config::explain::explain(document, spec, &place);
    let layer = |layer: config::explain::Layer| wire::ConfigLayer {
        scope: layer.scope.to_string(),
        value: layer.held.text,
        reaches: layer.reaches,
        unapplied: layer.unapplied.unwrap_or_default(),
    };
    wire::ExplainConfigResponse {
        key: spec.name.to_owned(),
        doc: spec.doc.trim().to_owned(),
        r#type: spec.kind.name().to_owned(),
        unit: spec.kind.unit().to_owned(),
        range: spec.kind.range(),
        default: spec.kind.write(&spec.default()),
        scopes: spec.levels.iter().map(|level| level.name().to_owned()).collect(),
        schema: spec.schema,
        layers: layers.into_iter().map(layer).collect(),
        value,
        winner: winner.map(|scope| scope.to_string()).unwrap_or_default(),
        zone: place.zone.unwrap_or_default(),
    }
}
