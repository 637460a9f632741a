//! Entries as the log stores them. The domain's types on one side, `mainstay.agent.state.v1` on the other.

mod guest;
mod network;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::{NetworkId, Run};
use ids::uuid::Uuid;
use prost::Message;
use proto::agent::state::v1 as stored;

use crate::entry::{Begun, Entry};
use crate::order::{Act, Epoch, ImageId, Life, Outcome, Reached, Step};

/// A record of the log cannot be understood: it was damaged, or written by a release that this one does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's log has a record that this release cannot read: {0}")]
pub struct CodecError(pub(crate) &'static str);

type Result<T> = std::result::Result<T, CodecError>;

/// The bytes of `entry` of the node `node`.
pub fn encode(node: &str, entry: &Entry) -> Bytes {
    stored::Record { node: node.to_owned(), entry: Some(put_entry(entry)) }.encode_to_vec().into()
}

/// The node and the entry that `bytes` are.
///
/// # Errors
/// If they are none that this release knows.
pub fn decode(bytes: Bytes) -> Result<(String, Entry)> {
    let record = stored::Record::decode(bytes).map_err(|_| CodecError("not a protobuf message of a record"))?;
    let entry = take_entry(record.entry.ok_or(CodecError("a kind of record of a newer release"))?)?;
    Ok((record.node, entry))
}

fn put_entry(entry: &Entry) -> stored::record::Entry {
    use stored::record::Entry as To;
    match entry {
        Entry::Boot(boot) => To::Boot(stored::Boot { boot_id: boot.clone() }),
        Entry::Counters { floor, run } => To::Counters(stored::Counters { floor: *floor, run: run.0 }),
        Entry::Network(told) => To::Network(network::put(told)),
        Entry::Port(told) => To::Port(network::put_port(told)),
        Entry::Group(told) => To::Group(network::put_group(told)),
        Entry::GroupGone(group) => To::GroupGone(put_id(group.as_uuid())),
        Entry::Begun(begun) => To::Begun(put_begun(begun)),
        Entry::Undoing { guest, reason } => {
            To::Undoing(stored::Undoing { guest: put_id(guest.as_uuid()), reason: reason.clone() })
        }
        Entry::Ended { work, step, guest, outcome, networks_gone } => To::Ended(stored::Ended {
            work: put_id(work.as_uuid()),
            step: step.0,
            guest: put_id(guest.as_uuid()),
            outcome: Some(put_outcome(outcome)),
            networks_gone: put_networks(networks_gone),
        }),
        Entry::Seen { work, epoch, created, floor } => {
            let work = put_id(work.as_uuid());
            To::Seen(stored::Seen { work, epoch: epoch.0, created: *created, floor: *floor })
        }
        Entry::RunRaised { guest, run } => {
            To::RunRaised(stored::RunRaised { guest: put_id(guest.as_uuid()), run: run.0 })
        }
        Entry::RunEnded { guest, run, cause } => {
            To::RunEnded(stored::RunEnded { guest: put_id(guest.as_uuid()), run: run.0, cause: cause.clone() })
        }
        Entry::Reported { guest, run } => To::Reported(stored::Reported { guest: put_id(guest.as_uuid()), run: run.0 }),
        Entry::Guest { spec, run, life, news } => To::Guest(stored::Guest {
            spec: Some(guest::put(spec)),
            run: run.0,
            life: put_life(*life).into(),
            news: news.as_ref().map(|(run, cause)| stored::RunEnded {
                guest: put_id(spec.id.as_uuid()),
                run: run.0,
                cause: cause.clone(),
            }),
        }),
        Entry::Work { work, created, epoch, step, ended } => To::Work(stored::Work {
            work: put_id(work.as_uuid()),
            created: *created,
            epoch: epoch.0,
            step: step.0,
            ended: ended.iter().map(put_ended_step).collect(),
        }),
    }
}

fn put_ended_step((step, outcome): &(Step, Outcome)) -> stored::Ended {
    stored::Ended { step: step.0, outcome: Some(put_outcome(outcome)), ..stored::Ended::default() }
}

fn take_entry(entry: stored::record::Entry) -> Result<Entry> {
    use stored::record::Entry as From;
    Ok(match entry {
        From::Boot(boot) => Entry::Boot(boot.boot_id),
        From::Counters(counters) => Entry::Counters { floor: counters.floor, run: Run(counters.run) },
        From::Network(told) => Entry::Network(network::take(told)?),
        From::Port(told) => Entry::Port(network::take_port(told)?),
        From::Group(told) => Entry::Group(network::take_group(told)?),
        From::GroupGone(group) => Entry::GroupGone(driver::GroupId::from_uuid(take_id(&group)?)),
        From::Begun(begun) => Entry::Begun(take_begun(begun)?),
        From::Undoing(undoing) => {
            Entry::Undoing { guest: driver::GuestId::from_uuid(take_id(&undoing.guest)?), reason: undoing.reason }
        }
        From::Ended(ended) => Entry::Ended {
            work: crate::WorkId::from_uuid(take_id(&ended.work)?),
            step: Step(ended.step),
            guest: driver::GuestId::from_uuid(take_id(&ended.guest)?),
            outcome: take_outcome(ended.outcome)?,
            networks_gone: take_networks(&ended.networks_gone)?,
        },
        From::Seen(seen) => Entry::Seen {
            work: crate::WorkId::from_uuid(take_id(&seen.work)?),
            epoch: Epoch(seen.epoch),
            created: seen.created,
            floor: seen.floor,
        },
        From::RunRaised(raised) => {
            Entry::RunRaised { guest: driver::GuestId::from_uuid(take_id(&raised.guest)?), run: Run(raised.run) }
        }
        From::RunEnded(ended) => Entry::RunEnded {
            guest: driver::GuestId::from_uuid(take_id(&ended.guest)?),
            run: Run(ended.run),
            cause: ended.cause,
        },
        From::Reported(told) => {
            Entry::Reported { guest: driver::GuestId::from_uuid(take_id(&told.guest)?), run: Run(told.run) }
        }
        From::Guest(known) => Entry::Guest {
            life: take_life(known.life)?,
            spec: Arc::new(guest::take(known.spec.ok_or(CodecError("a guest without a description"))?)?),
            run: Run(known.run),
            news: known.news.map(|news| (Run(news.run), news.cause)),
        },
        From::Work(work) => Entry::Work {
            work: crate::WorkId::from_uuid(take_id(&work.work)?),
            created: work.created,
            epoch: Epoch(work.epoch),
            step: Step(work.step),
            ended: work.ended.into_iter().map(take_ended_step).collect::<Result<_>>()?,
        },
    })
}

fn take_ended_step(ended: stored::Ended) -> Result<(Step, Outcome)> {
    Ok((Step(ended.step), take_outcome(ended.outcome)?))
}

fn put_begun(begun: &Begun) -> stored::Begun {
    use stored::begun::Act as To;
    let millis = |span: &Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let act = match &begun.act {
        Act::Build(spec) => To::Build(guest::put(spec)),
        Act::Destroy(networks) => To::Destroy(stored::NetworkIds { ids: put_networks(networks) }),
        Act::Start => To::Start(stored::Unit {}),
        Act::Stop(grace) => To::StopGraceMs(grace.as_ref().map_or(0, millis)),
        Act::Reboot(None) => To::RebootHard(stored::Unit {}),
        Act::Reboot(Some(grace)) => To::RebootGraceMs(millis(grace)),
        Act::Pause => To::Pause(stored::Unit {}),
        Act::Unpause => To::Unpause(stored::Unit {}),
        Act::Snapshot(image) => To::Snapshot(put_id(image.as_uuid())),
    };
    stored::Begun {
        work: put_id(begun.work.as_uuid()),
        epoch: begun.epoch.0,
        step: begun.step.0,
        created: begun.created,
        floor: begun.floor,
        guest: put_id(begun.guest.as_uuid()),
        run: begun.run.0,
        act: Some(act),
        networks: begun.networks.iter().map(network::put).collect(),
        ports: begun.ports.iter().map(network::put_port).collect(),
    }
}

fn put_networks(networks: &[NetworkId]) -> Vec<Bytes> {
    networks.iter().map(|network| put_id(network.as_uuid())).collect()
}

fn take_networks(networks: &[Bytes]) -> Result<Vec<NetworkId>> {
    networks.iter().map(|id| Ok(NetworkId::from_uuid(take_id(id)?))).collect()
}

fn take_begun(begun: stored::Begun) -> Result<Begun> {
    use stored::begun::Act as From;
    let act = match begun.act.ok_or(CodecError("an act of a newer release"))? {
        From::Build(spec) => Act::Build(Arc::new(guest::take(spec)?)),
        From::Destroy(networks) => Act::Destroy(take_networks(&networks.ids)?),
        From::Start(stored::Unit {}) => Act::Start,
        From::StopGraceMs(grace) => Act::Stop((grace > 0).then(|| Duration::from_millis(grace))),
        From::RebootHard(stored::Unit {}) => Act::Reboot(None),
        From::RebootGraceMs(grace) => Act::Reboot(Some(Duration::from_millis(grace))),
        From::Pause(stored::Unit {}) => Act::Pause,
        From::Unpause(stored::Unit {}) => Act::Unpause,
        From::Snapshot(image) => Act::Snapshot(ImageId::from_uuid(take_id(&image)?)),
    };
    Ok(Begun {
        work: crate::WorkId::from_uuid(take_id(&begun.work)?),
        epoch: Epoch(begun.epoch),
        step: Step(begun.step),
        created: begun.created,
        floor: begun.floor,
        guest: driver::GuestId::from_uuid(take_id(&begun.guest)?),
        act,
        run: Run(begun.run),
        networks: begun.networks.into_iter().map(network::take).collect::<Result<_>>()?,
        ports: begun.ports.into_iter().map(network::take_port).collect::<Result<_>>()?,
    })
}

fn put_outcome(outcome: &Outcome) -> stored::Outcome {
    let empty = stored::Outcome::default();
    match outcome {
        Outcome::Done(Reached { life, run }) => stored::Outcome { life: put_life(*life).into(), run: run.0, ..empty },
        Outcome::Refused { reason, left } => {
            stored::Outcome { life: put_life(*left).into(), refused: told(reason), ..empty }
        }
        Outcome::Abandoned { reason } => stored::Outcome { abandoned: told(reason), ..empty },
    }
}

/// A reason that is never empty: emptiness says that there is none.
fn told(reason: &str) -> String {
    if reason.is_empty() { "no reason was given".to_owned() } else { reason.to_owned() }
}

fn take_outcome(outcome: Option<stored::Outcome>) -> Result<Outcome> {
    let outcome = outcome.ok_or(CodecError("an end without an outcome"))?;
    if !outcome.abandoned.is_empty() {
        return Ok(Outcome::Abandoned { reason: outcome.abandoned });
    }
    let life = take_life(outcome.life)?;
    Ok(if outcome.refused.is_empty() {
        Outcome::Done(Reached { life, run: Run(outcome.run) })
    } else {
        Outcome::Refused { reason: outcome.refused, left: life }
    })
}

fn put_life(life: Life) -> stored::Life {
    match life {
        Life::Absent => stored::Life::Absent,
        Life::Stopped => stored::Life::Stopped,
        Life::Running => stored::Life::Running,
        Life::Paused => stored::Life::Paused,
    }
}

fn take_life(life: i32) -> Result<Life> {
    match stored::Life::try_from(life) {
        Ok(stored::Life::Absent) => Ok(Life::Absent),
        Ok(stored::Life::Stopped) => Ok(Life::Stopped),
        Ok(stored::Life::Running) => Ok(Life::Running),
        Ok(stored::Life::Paused) => Ok(Life::Paused),
        Ok(stored::Life::Unspecified) | Err(_) => Err(CodecError("a state of a guest of a newer release")),
    }
}

pub(crate) fn put_id(id: &Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(crate) fn take_id(bytes: &Bytes) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| CodecError("an id that is not 16 bytes long"))
}
