//! Answers as tables for people.

use std::fmt::Write;

use proto::operator::v1 as wire;
use world::Wall;

/// Agents that `status` shows one by one.
const AGENTS_SHOWN_MAX: usize = 16;

/// Columns as wide as their widest cell; no lines, so that a table can be cut with ordinary tools.
pub(super) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
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

/// What an audit found.
pub(super) fn audit(found: &wire::AuditResponse) -> String {
    let mut out = format!(
        "revision {}  accounts {}  entries {}  nodes compared {}\n",
        found.revision,
        found.accounts,
        found.entries,
        found.compared.len()
    );
    for silent in &found.silent {
        let _infallible = writeln!(out, "{} was not compared: {}", silent.node, silent.reason);
    }
    for text in &found.under_way {
        let _infallible = writeln!(out, "under way: {text}");
    }
    for finding in &found.findings {
        let _infallible = writeln!(out, "\n{}: {}: {}", finding.kind, finding.about, finding.text);
        finding.behind.iter().for_each(|behind| {
            let _infallible = writeln!(out, "    behind it: {behind}");
        });
        let _infallible = writeln!(out, "    next: {}", finding.next);
    }
    if found.findings.is_empty() {
        out.push_str("nothing was found that does not add up\n");
    }
    out
}

/// The cell's state.
pub(super) fn status(status: &wire::GetStatusResponse, now: Wall) -> String {
    let mut out = format!(
        "cell {}  release {}  revision {}  configuration {}\nservers {}  nodes {} of {} up  works in flight {} ({} failing)\n\n",
        status.cell,
        status.release,
        status.revision,
        status.config,
        status.servers,
        status.nodes_up,
        status.nodes,
        status.works,
        status.works_failing
    );
    // A thousand nodes that are well say it in one line; `node list` has them all.
    let well = |process: &wire::Process| {
        process.up && process.serving && process.release == status.release && process.config == status.config
    };
    let (agents, control): (Vec<_>, Vec<_>) =
        status.processes.iter().partition(|process| process.identity.starts_with("agent/"));
    let shown_agents: Vec<_> = match agents.len() {
        0..=AGENTS_SHOWN_MAX => agents.clone(),
        _ => agents.iter().copied().filter(|process| !well(process)).collect(),
    };
    let hidden = agents.len() - shown_agents.len();
    let rows: Vec<_> = control.into_iter().chain(shown_agents).map(|one| process_row(one, status.config)).collect();
    let head = ["PROCESS", "ROLES", "STATE", "RELEASE", "UP FOR", "VIEW", "CONFIG", "ENDPOINT", "METRICS"];
    out.push_str(&columns(&head, &rows));
    if hidden > 0 {
        let _infallible = writeln!(out, "and {hidden} agents that are up, of this release and configured alike");
    }
    for process in status.processes.iter().filter(|process| !process.evidence.is_empty()) {
        let why = evidence(&process.evidence, process.since_us, now);
        let _infallible = writeln!(out, "{} is {}: {why}", process.identity, process.status);
    }
    for process in status.processes.iter().filter(|process| !process.error.is_empty()) {
        let _infallible = writeln!(out, "{} is silent: {}", process.identity, process.error);
    }
    out
}

fn process_row(process: &wire::Process, config: u64) -> Vec<String> {
    let state = match (process.up, process.serving) {
        (true, true) => "up",
        (true, false) => "starting",
        (false, _) if process.error.is_empty() => process.status.as_str(),
        (false, _) => "silent",
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        process.identity.clone(),
        process.roles.join(","),
        state.to_owned(),
        or_dash(&process.release),
        if process.up { span(process.uptime_us / 1_000_000) } else { "-".to_owned() },
        if process.views_loaded { process.revision.to_string() } else { "-".to_owned() },
        if process.config < config { format!("{} (behind)", process.config) } else { process.config.to_string() },
        or_dash(&process.endpoint),
        or_dash(&process.metrics),
    ]
}

/// Seconds as people say them.
fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs / 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

/// The keys that sign tokens were rotated.
pub(super) fn rotated(rotated: &wire::RotateTokenKeysResponse) -> String {
    let kept = match rotated.kept {
        0 => "every token that was issued before is void".to_owned(),
        kept => format!("tokens that earlier keys signed ({kept} of them) are good until they end"),
    };
    format!("{} signs tokens from now on; {kept}; keys removed: {}\n", rotated.signs, rotated.removed)
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
pub(super) fn nodes(nodes: &[wire::Node], now: Wall) -> String {
    let row = |node: &wire::Node| {
        let state = match (node.up, node.disabled.is_empty()) {
            (true, true) => "up".to_owned(),
            (true, false) => format!("up, disabled: {}", node.disabled),
            (false, _) if node.status.is_empty() => "not seen yet".to_owned(),
            (false, _) => node.status.clone(),
        };
        let amounts: Vec<String> =
            node.amounts.iter().map(|amount| format!("{} {}/{}", amount.class, amount.used, amount.capacity)).collect();
        vec![
            node.name.clone(),
            state,
            node.machine.clone(),
            node.hypervisor.clone(),
            node.zone.clone(),
            node.servers.to_string(),
            amounts.join("  "),
            node.unknown_guests.len().to_string(),
            evidence(&node.evidence, node.since_us, now),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    let head = ["NODE", "STATE", "MACHINE", "HYPERVISOR", "ZONE", "SERVERS", "CLAIMED", "UNKNOWN GUESTS", "EVIDENCE"];
    columns(&head, &rows)
}

/// What speaks for a status, and since when.
pub(super) fn evidence(text: &str, since_us: u64, now: Wall) -> String {
    match since_us {
        0 => text.to_owned(),
        since => format!("{text}, for {}", span(now.as_micros().saturating_sub(since) / 1_000_000)),
    }
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
