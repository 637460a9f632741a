//! QEMU's monitor protocol: what its lines mean.
//!
//! One JSON document a line. First a greeting; after `qmp_capabilities` each command is answered by a return or an
//! error with the command's id, and events come in between. Only what this driver uses has a type; other events pass
//! as [`Event::Other`]. Nothing here reads or writes: [`crate::monitor`] does.

use serde::Deserialize;
use serde_json::{Value, json};

/// One line from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    Greeting,
    /// What the command with this id returned.
    Return(u64, Value),
    /// Why the command with this id was refused.
    Error(u64, String),
    Event(Event),
}

/// Something that happened to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The guest ends, and QEMU after it.
    Shutdown(Shutdown),
    /// A block job (its id) has ended; the text is why it failed.
    JobEnded(String, Result<(), String>),
    /// What needs no answer.
    Other(String),
}

/// On whose wish a guest ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Its own system's.
    Guest,
    /// Its system crashed.
    Panic,
    /// Somebody's on the node: the reason as QEMU names it.
    Host(String),
}

/// A line is not of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine(pub(crate) String);

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<RawError>,
    id: Option<u64>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct RawError {
    desc: String,
}

pub(crate) fn parse(line: &[u8]) -> Result<Line, BadLine> {
    let raw: Raw = serde_json::from_slice(line).map_err(|error| BadLine(error.to_string()))?;
    match (raw.greeting, raw.event, raw.returned, raw.error, raw.id) {
        (Some(_), ..) => Ok(Line::Greeting),
        (None, Some(name), ..) => Ok(Line::Event(event(name, &raw.data))),
        (None, None, Some(value), _, Some(id)) => Ok(Line::Return(id, value)),
        (None, None, None, Some(error), Some(id)) => Ok(Line::Error(id, error.desc)),
        (None, None, ..) => Err(BadLine("neither an event nor the answer to a command".into())),
    }
}

fn event(name: String, data: &Value) -> Event {
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    match name.as_str() {
        "SHUTDOWN" => Event::Shutdown(match text("reason").as_str() {
            "guest-shutdown" | "guest-reset" => Shutdown::Guest,
            "guest-panic" => Shutdown::Panic,
            _ if data["guest"].as_bool() == Some(true) => Shutdown::Guest,
            reason => Shutdown::Host(reason.to_owned()),
        }),
        "BLOCK_JOB_COMPLETED" => {
            Event::JobEnded(text("device"), data["error"].as_str().map_or(Ok(()), |error| Err(error.to_owned())))
        }
        "BLOCK_JOB_CANCELLED" => Event::JobEnded(text("device"), Err("it was cancelled".into())),
        _ => Event::Other(name),
    }
}

/// The line of a command.
pub(crate) fn command(id: u64, name: &str, arguments: &Value) -> Vec<u8> {
    let mut document = json!({"execute": name, "id": id});
    if !arguments.is_null() {
        document["arguments"] = arguments.clone();
    }
    let mut line = document.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as QEMU 7.2 writes them.
    #[test]
    fn a_recorded_session_is_understood() {
        let lines = [
            (
                r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#,
                Line::Greeting,
            ),
            (r#"{"return": {}, "id": 0}"#, Line::Return(0, json!({}))),
            (
                r#"{"return": {"status": "running", "singlestep": false, "running": true}, "id": 1}"#,
                Line::Return(1, json!({"status": "running", "singlestep": false, "running": true})),
            ),
            (
                r#"{"id": 2, "error": {"class": "CommandNotFound", "desc": "The command nothing has not been found"}}"#,
                Line::Error(2, "The command nothing has not been found".into()),
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
                Line::Event(Event::Other("STOP".into())),
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
                Line::Event(Event::Shutdown(Shutdown::Guest)),
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#,
                Line::Event(Event::Shutdown(Shutdown::Host("host-signal".into()))),
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#,
                Line::Event(Event::Shutdown(Shutdown::Panic)),
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_JOB_COMPLETED", "data": {"device": "export", "len": 5, "offset": 3, "speed": 0, "type": "backup", "error": "No space left on device"}}"#,
                Line::Event(Event::JobEnded("export".into(), Err("No space left on device".into()))),
            ),
        ];
        for (text, meaning) in lines {
            assert_eq!(parse(text.as_bytes()), Ok(meaning), "{text}");
        }
        for bad in ["", "{}", "[]", r#"{"return": {}}"#, r#"{"id": 4}"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_are_one_line_each() {
        assert_eq!(command(3, "quit", &Value::Null), b"{\"execute\":\"quit\",\"id\":3}\n");
        let line = command(4, "add-fd", &json!({"fdset-id": 9}));
        assert_eq!(line, b"{\"arguments\":{\"fdset-id\":9},\"execute\":\"add-fd\",\"id\":4}\n");
    }
}
