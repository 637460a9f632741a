//! `mainstay config`: what is asked, and the answers as tables and as values.

use std::fmt::Write;

use proto::operator::v1 as wire;
use proto::operator::v1::operator_service_client::OperatorServiceClient;
use rpc::Channel;
use serde_json::{Value, json};
use tonic::Status;

use super::table::columns;

/// What is asked about the configuration.
#[derive(Debug)]
pub enum ConfigQuestion {
    Get(wire::GetConfigRequest),
    Set(wire::SetConfigRequest),
    Unset(wire::UnsetConfigRequest),
    History(wire::ConfigHistoryRequest),
    Rollback(wire::RollbackConfigRequest),
    Explain(wire::ExplainConfigRequest),
}

/// Asks; the answer for people and for programs.
pub(super) async fn ask(
    client: &mut OperatorServiceClient<Channel>,
    question: ConfigQuestion,
) -> Result<(String, Value), Status> {
    Ok(match question {
        ConfigQuestion::Get(asked) => {
            let got = client.get_config(asked).await?.into_inner();
            (values(&got), values_json(&got))
        }
        ConfigQuestion::Set(asked) => {
            let set = client.set_config(asked).await?.into_inner();
            let mut text = done(set.revision, &set.changes);
            if !set.note.is_empty() {
                let _infallible = writeln!(text, "note: {}", set.note);
            }
            let mut value = done_json(set.revision, &set.changes);
            value["note"] = set.note.into();
            (text, value)
        }
        ConfigQuestion::Unset(asked) => {
            let unset = client.unset_config(asked).await?.into_inner();
            (done(unset.revision, &unset.changes), done_json(unset.revision, &unset.changes))
        }
        ConfigQuestion::Rollback(asked) => {
            let rolled = client.rollback_config(asked).await?.into_inner();
            (done(rolled.revision, &rolled.changes), done_json(rolled.revision, &rolled.changes))
        }
        ConfigQuestion::History(asked) => {
            let history = client.config_history(asked).await?.into_inner();
            let all = history.changes.iter().map(change_json).collect::<Vec<_>>();
            (changes(&history), json!({ "changes": all, "reaches": history.reaches }))
        }
        ConfigQuestion::Explain(asked) => {
            let place = place(&asked);
            let explained = client.explain_config(asked).await?.into_inner();
            (explanation(&explained, &place), explanation_json(&explained))
        }
    })
}

fn values(got: &wire::GetConfigResponse) -> String {
    if got.values.is_empty() {
        return "nothing is set: every key has its default (`mainstay config get --all` shows them)\n".to_owned();
    }
    let row = |value: &wire::ConfigValue| {
        let scope = if value.scope.is_empty() { "default" } else { &value.scope };
        let unapplied = if value.unapplied.is_empty() { "" } else { "not applied: " };
        vec![
            value.key.clone(),
            scope.to_owned(),
            value.value.clone(),
            value.unit.clone(),
            format!("{unapplied}{}", value.unapplied),
        ]
    };
    let rows: Vec<_> = got.values.iter().map(row).collect();
    let table = columns(&["KEY", "SCOPE", "VALUE", "UNIT", ""], &rows);
    format!("{table}revision {}\n", got.revision)
}

fn done(revision: u64, changes: &[wire::ConfigChange]) -> String {
    if changes.is_empty() {
        return format!("nothing was changed: it is so already, at revision {revision}\n");
    }
    let mut text = String::new();
    for change in changes {
        let (old, new) = (or_dash(&change.old), or_dash(&change.new));
        let _infallible = writeln!(text, "{} for {}: {old} -> {new}", change.key, change.scope);
    }
    let _infallible = writeln!(text, "revision {revision}");
    text
}

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}

fn changes(history: &wire::ConfigHistoryResponse) -> String {
    if history.changes.is_empty() {
        return "it was never changed\n".to_owned();
    }
    let row = |change: &wire::ConfigChange| {
        let why = change.rolled_back_to.map(|to| format!("back to {to}")).unwrap_or_default();
        vec![
            change.revision.to_string(),
            when(change.at_us),
            change.who.clone(),
            change.key.clone(),
            change.scope.clone(),
            or_dash(&change.old),
            or_dash(&change.new),
            why,
        ]
    };
    let rows: Vec<_> = history.changes.iter().map(row).collect();
    columns(&["REVISION", "WHEN", "WHO", "KEY", "SCOPE", "OLD", "NEW", ""], &rows)
}

/// A moment as people in no particular place write it.
fn when(micros: u64) -> String {
    let secs = micros / 1_000_000;
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have their leap day at the end, so that months have a regular length.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn place(asked: &wire::ExplainConfigRequest) -> String {
    let named = [("node", &asked.node), ("role", &asked.role), ("zone", &asked.zone)];
    let named: Vec<String> =
        named.iter().filter(|(_, name)| !name.is_empty()).map(|(level, name)| format!("{level} {name}")).collect();
    if named.is_empty() { "the cell".to_owned() } else { named.join(", ") }
}

fn explanation(explained: &wire::ExplainConfigResponse, place: &str) -> String {
    let mut text = format!("{}\n  {}\n\n", explained.key, explained.doc);
    let unit = if explained.unit.is_empty() { String::new() } else { format!(" ({})", explained.unit) };
    let facts = [
        ("type", format!("{}{unit}, version {} of its schema", explained.r#type, explained.schema)),
        ("allowed", explained.range.clone()),
        ("default", explained.default.clone()),
        ("scopes", explained.scopes.join(", ")),
    ];
    for (name, fact) in facts {
        let _infallible = writeln!(text, "{name:<9}{fact}");
    }
    let row = |layer: &wire::ConfigLayer| {
        let why = match (layer.unapplied.is_empty(), layer.scope == explained.winner, layer.reaches) {
            (false, _, _) => format!("not applied: {}", layer.unapplied),
            (true, true, _) => "wins".to_owned(),
            (true, false, true) => "outdone by a more specific one".to_owned(),
            (true, false, false) => "for others".to_owned(),
        };
        vec![layer.scope.clone(), layer.value.clone(), why]
    };
    let mut rows: Vec<_> = explained.layers.iter().map(row).collect();
    let by_default = if explained.winner.is_empty() { "wins" } else { "outdone by what is set" };
    rows.push(vec!["default".to_owned(), explained.default.clone(), by_default.to_owned()]);
    let _infallible = writeln!(text, "\n{}", columns(&["SCOPE", "VALUE", ""], &rows));
    let _infallible = writeln!(text, "for {place} it is {}", explained.value);
    text
}

fn values_json(got: &wire::GetConfigResponse) -> Value {
    let value = |value: &wire::ConfigValue| {
        json!({ "key": value.key, "scope": value.scope, "value": value.value, "unit": value.unit,
                "schema": value.schema, "unapplied": value.unapplied })
    };
    json!({ "revision": got.revision, "values": got.values.iter().map(value).collect::<Vec<_>>() })
}

fn change_json(change: &wire::ConfigChange) -> Value {
    json!({ "revision": change.revision, "at_us": change.at_us, "who": change.who, "key": change.key,
            "scope": change.scope, "old": change.old, "new": change.new, "rolled_back_to": change.rolled_back_to })
}

fn done_json(revision: u64, changes: &[wire::ConfigChange]) -> Value {
    json!({ "revision": revision, "changes": changes.iter().map(change_json).collect::<Vec<_>>() })
}

fn explanation_json(explained: &wire::ExplainConfigResponse) -> Value {
    let layer = |layer: &wire::ConfigLayer| json!({ "scope": layer.scope, "value": layer.value, "reaches": layer.reaches, "unapplied": layer.unapplied });
    json!({
        "key": explained.key, "doc": explained.doc, "type": explained.r#type, "unit": explained.unit,
        "range": explained.range, "default": explained.default, "scopes": explained.scopes,
        "schema": explained.schema, "value": explained.value, "winner": explained.winner, "zone": explained.zone,
        "layers": explained.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(when(secs * 1_000_000), text);
        }
    }

    #[test]
    fn an_explanation_says_what_wins_and_why() {
        let layer = |scope: &str, value: &str, reaches| wire::ConfigLayer {
            scope: scope.into(),
            value: value.into(),
            reaches,
            unapplied: String::new(),
        };
        let explained = wire::ExplainConfigResponse {
            key: "k".into(),
            doc: "What it is for.".into(),
            r#type: "integer".into(),
            unit: "works".into(),
            range: "1 to 9".into(),
            default: "3".into(),
            scopes: vec!["cell".into(), "node".into()],
            schema: 1,
            layers: vec![layer("node/n1", "5", true), layer("node/n2", "6", false), layer("cell", "4", true)],
            value: "5".into(),
            winner: "node/n1".into(),
            zone: String::new(),
        };
        let text = explanation(&explained, "node n1");
        for line in [
            "type     integer (works), version 1 of its schema\n",
            "node/n1  5      wins\n",
            "node/n2  6      for others\n",
            "cell     4      outdone by a more specific one\n",
            "default  3      outdone by what is set\n",
            "for node n1 it is 5\n",
        ] {
            assert!(text.contains(line), "{line:?}: {text}");
        }
    }
}
