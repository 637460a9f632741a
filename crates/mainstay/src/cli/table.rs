//! Answers as tables for people.

use std::fmt::Write;

use proto::operator::v1 as wire;

/// Columns as wide as their widest cell; no lines, so that a table can be cut with ordinary tools.
fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(at, name)| rows.iter().map(|row| cells(row, at)).chain([name.len()]).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    let mut line = |row: &[String]| {
        let text: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(text.join("  ").trim_end());
        out.push('\n');
    };
    line(&head.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    out
}

/// The cell's state.
pub(super) fn status(status: &wire::GetStatusResponse) -> String {
    let mut out = format!(
        "cell {}  release {}  revision {}\nservers {}  nodes {} of {} up  works in flight {} ({} failing)\n\n",
        status.cell,
        status.release,
        status.revision,
        status.servers,
        status.nodes_up,
        status.nodes,
        status.works,
        status.works_failing
    );
    let row = |process: &wire::Process| {
        let up = if process.up { "up" } else { "silent" };
        vec![
            process.identity.clone(),
            process.roles.join(","),
            up.to_owned(),
            process.release.clone(),
            process.endpoint.clone(),
        ]
    };
    let rows: Vec<_> = status.processes.iter().map(row).collect();
    out.push_str(&columns(&["PROCESS", "ROLES", "STATE", "RELEASE", "ENDPOINT"], &rows));
    out
}

/// Works in flight.
pub(super) fn works(works: &[wire::Work]) -> String {
    if works.is_empty() {
        return "no work is in flight\n".to_owned();
    }
    let row = |work: &wire::Work| {
        vec![
            work.id.clone(),
            work.kind.clone(),
            work.subject.clone(),
            work.epoch.to_string(),
            state(work),
            work.error.clone(),
        ]
    };
    let rows: Vec<_> = works.iter().map(row).collect();
    columns(&["WORK", "KIND", "SUBJECT", "EPOCH", "STATE", "LAST ERROR"], &rows)
}

fn state(work: &wire::Work) -> String {
    if work.waiting {
        return "waits for another work".to_owned();
    }
    let step = if work.step.is_empty() { "under way" } else { &work.step };
    let undoing = if work.undoing { "undoing " } else { "" };
    let failed = if work.failures > 0 { format!(", failed {} times", work.failures) } else { String::new() };
    format!("{undoing}{step}{failed}")
}

/// One work.
pub(super) fn work(shown: &wire::ShowWorkResponse) -> String {
    let mut out = String::new();
    if let Some(work) = &shown.work {
        let _infallible = writeln!(
            out,
            "work     {}\nkind     {}\nsubject  {}\nowner    {} (epoch {})\nrequest  {}\nstate    {}",
            work.id,
            work.kind,
            work.subject,
            work.owner,
            work.epoch,
            work.request_id,
            state(work)
        );
        for (name, text) in [("error", &work.error), ("abort", &work.abort)] {
            if !text.is_empty() {
                let _infallible = writeln!(out, "{name:<9}{text}");
            }
        }
        out.push('\n');
    }
    let row = |line: &wire::JournalLine| {
        let values = [line.number.to_string(), line.event.clone(), line.step.to_string(), line.epoch.to_string()];
        values.into_iter().chain([line.reason.clone()]).collect::<Vec<_>>()
    };
    let rows: Vec<_> = shown.journal.iter().map(row).collect();
    out.push_str(&columns(&["ENTRY", "EVENT", "STEP", "EPOCH", "REASON"], &rows));
    out
}

/// Nodes.
pub(super) fn nodes(nodes: &[wire::Node]) -> String {
    let row = |node: &wire::Node| {
        let state = match (node.up, node.disabled.is_empty()) {
            (true, true) => "up".to_owned(),
            (true, false) => format!("up, disabled: {}", node.disabled),
            (false, _) => "away".to_owned(),
        };
        let amounts: Vec<String> =
            node.amounts.iter().map(|amount| format!("{} {}/{}", amount.class, amount.used, amount.capacity)).collect();
        vec![
            node.name.clone(),
            state,
            node.hypervisor.clone(),
            node.zone.clone(),
            node.servers.to_string(),
            amounts.join("  "),
            node.unknown_guests.len().to_string(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    columns(&["NODE", "STATE", "HYPERVISOR", "ZONE", "SERVERS", "CLAIMED", "UNKNOWN GUESTS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_that_fails_says_where_and_why() {
        let work = wire::Work {
            id: "w".into(),
            kind: "server.delete".into(),
            subject: "s".into(),
            epoch: 2,
            step: "destroy on node".into(),
            failures: 3,
            error: "the node n1 is away".into(),
            ..wire::Work::default()
        };
        let want = "WORK  KIND           SUBJECT  EPOCH  STATE                            LAST ERROR\n\
                    w     server.delete  s        2      destroy on node, failed 3 times  the node n1 is away\n";
        assert_eq!(works(&[work]), want);
    }
}
