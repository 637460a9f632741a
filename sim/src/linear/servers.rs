//! What the API promises of one server to all of its clients together.
//!
//! A server that was accepted is there, to everybody and from then on, until a deletion is accepted (or may have been). Then
//! it is shown as being deleted until it is gone, and what is gone does not come back. Its description is a register:
//! whoever reads it gets what was written last. What a node does to it in the background is nobody's call and not looked
//! at; nor is how long a deletion takes.

use std::collections::BTreeMap;

use super::{Call, Model, check};

/// What a client asks of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// That it be made.
    Create,
    /// That it be deleted.
    Delete,
    /// That this be its description.
    Describe(String),
    /// How it stands.
    Look,
    /// Anything else that only a server that is there can answer.
    Other(&'static str),
}

impl Op {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Create => "create",
            Op::Delete => "delete",
            Op::Describe(_) => "describe",
            Op::Look => "look",
            Op::Other(what) => what,
        }
    }
}

/// What a client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ret {
    /// It was accepted, or refused for a reason that a server must be there to have.
    There,
    /// What a look shows.
    Shown {
        /// Its description.
        description: Option<String>,
        /// Whether it is being deleted.
        deleting: bool,
    },
    /// There is no such server.
    Missing,
}

/// A server as the API shows it.
struct Promised;

#[derive(Clone, PartialEq, Eq, Hash)]
enum State {
    NotYet,
    There { description: Option<String>, deleting: bool },
    Gone,
}

impl Model for Promised {
    type State = State;
    type Op = Op;
    type Ret = Ret;

    fn start(&self) -> State {
        State::NotYet
    }

    fn step(&self, state: &State, op: &Op, ret: Option<&Ret>) -> Option<State> {
        match (state, ret) {
            (State::NotYet, _) if *op == Op::Create => Some(State::There { description: None, deleting: false }),
            (State::NotYet, Some(Ret::Missing)) => Some(State::NotYet),
            // When it goes is nobody's call: the first who does not find it says that it has gone.
            (State::There { deleting: true, .. } | State::Gone, Some(Ret::Missing)) => Some(State::Gone),
            (State::There { description, deleting }, Some(Ret::Shown { description: shown, deleting: going })) => {
                (description == shown && deleting == going).then(|| state.clone())
            }
            (State::There { description, deleting }, Some(Ret::There) | None) => match op {
                Op::Create => None,
                Op::Delete => Some(State::There { description: description.clone(), deleting: true }),
                Op::Describe(text) => Some(State::There { description: Some(text.clone()), deleting: *deleting }),
                Op::Look | Op::Other(_) => Some(state.clone()),
            },
            (State::There { deleting: false, .. }, Some(Ret::Missing))
            | (State::NotYet | State::Gone, Some(Ret::There | Ret::Shown { .. }) | None) => None,
        }
    }
}

/// Calls by server.
#[derive(Debug, Default)]
pub struct Histories {
    servers: BTreeMap<String, Vec<Call<Op, Ret>>>,
}

impl Histories {
    /// Writes down a call about the server with this name.
    pub fn note(&mut self, server: &str, call: Call<Op, Ret>) {
        self.servers.entry(server.to_owned()).or_default().push(call);
    }

    /// Calls that were written down.
    pub fn len(&self) -> usize {
        self.servers.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// What cannot have been so; each names its server and shows what its clients saw.
    pub fn complaints(&self) -> Vec<String> {
        let wrong = self.servers.iter().filter_map(|(name, calls)| {
            let unexplained = check(&Promised, calls).err()?;
            Some(format!(
                "{name} was not one server to all: no order explains\n{}",
                table(calls, &unexplained.explained)
            ))
        });
        wrong.collect()
    }
}

/// The calls by their beginnings, in aligned lines; a mark at those that no order explains together with the others.
fn table(calls: &[Call<Op, Ret>], explained: &[usize]) -> String {
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|number| calls[*number].begun);
    let seconds = |nanos: u64| format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1000 % 1_000_000);
    let lines = order.into_iter().map(|number| {
        let call = &calls[number];
        let mark = if explained.contains(&number) || call.ended.is_none() { ' ' } else { '!' };
        let asked = match &call.op {
            Op::Describe(text) => format!("describe {text}"),
            Op::Create | Op::Delete | Op::Look | Op::Other(_) => call.op.name().to_owned(),
        };
        let (end, told) = match &call.ended {
            None => (String::new(), "unknown".to_owned()),
            Some((when, Ret::There)) => (seconds(*when), "there".to_owned()),
            Some((when, Ret::Missing)) => (seconds(*when), "missing".to_owned()),
            Some((when, Ret::Shown { description, deleting })) => {
                let going = if *deleting { ", being deleted" } else { "" };
                (seconds(*when), format!("shown as {}{going}", description.as_deref().unwrap_or("-")))
            }
        };
        format!("    {mark} {:>13} {end:>13}  client{}  {asked:<22}  {told}", seconds(call.begun), call.client)
    });
    lines.collect::<Vec<_>>().join("\n")
}
