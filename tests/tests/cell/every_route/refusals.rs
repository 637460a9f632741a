//! Whether an error is written as its family writes them; and all that was found wrong on a walk.

use cell_tests::{RawAnswer, Route};
use serde_json::Value;

/// What was found wrong: a walk goes on to its end, so that one look shows everything.
#[derive(Default)]
pub(super) struct Findings(Vec<String>);

impl Findings {
    /// Notes `what` unless it is as it should be.
    pub(super) fn check(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.0.push(what());
        }
    }

    /// Notes it if `answer` is no refusal in the words of the route's family.
    pub(super) fn refusal(&mut self, route: &Route, answer: &RawAnswer, sent: &str) {
        let ours = (400..500).contains(&answer.status) || answer.status == 501;
        self.check(ours, || format!("{} {} {sent:.80}: {answer:?}", route.method, route.path));
        self.words(route, answer, sent);
    }

    /// Notes it if `answer` has no id, is our fault, or is an error in other words than those of the route's family.
    pub(super) fn words(&mut self, route: &Route, answer: &RawAnswer, sent: &str) {
        let told = |what: &str| format!("{} {} {sent:.80}: {what}: {answer:?}", route.method, route.path);
        self.check(answer.status < 500 || answer.status == 501, || told("our fault"));
        if let Err(what) = words(route, answer) {
            self.0.push(told(what));
        }
    }

    /// # Panics
    /// If anything was found.
    #[track_caller]
    pub(super) fn are_none(self) {
        assert!(self.0.is_empty(), "{} findings:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn words(route: &Route, answer: &RawAnswer) -> Result<(), &'static str> {
    let id = answer.headers.get("x-openstack-request-id").map(String::as_str).unwrap_or_default();
    if !id.starts_with("req-") {
        return Err("without the request's id");
    }
    if answer.status < 400 || route.method == "HEAD" {
        return Ok(());
    }
    let body = answer.json();
    let dialect = if answer.status == 401 { "Keystone" } else { route.dialect.as_str() };
    let said = match dialect {
        "Keystone" => numbered(&body["error"], "code", answer.status) && is_text(&body["error"]["title"]),
        "Nova" => {
            let inner = body.as_object().filter(|object| object.len() == 1).and_then(|object| object.values().next());
            inner.is_some_and(|inner| numbered(inner, "code", answer.status))
        }
        "Neutron" => is_text(&body["NeutronError"]["type"]) && is_text(&body["NeutronError"]["message"]),
        "Placement" => {
            let error = &body["errors"][0];
            numbered(&serde_json::json!({ "code": error["status"], "message": error["detail"] }), "code", answer.status)
                && error["request_id"] == id
        }
        // A page for people, as its clients expect.
        "Glance" => String::from_utf8_lossy(&answer.body).contains(&format!("<h1>{} ", answer.status)),
        other => panic!("{other} is a dialect that this test does not know"),
    };
    if said { Ok(()) } else { Err("not in its family's words") }
}

fn numbered(error: &Value, name: &str, status: u16) -> bool {
    error[name] == status && is_text(&error["message"])
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
