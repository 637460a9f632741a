//! A trace as a waterfall: one line a span, indented by depth, with a bar for when it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proto::operator::v1 as wire;
use proto::telemetry::v1::Span;

/// Characters of a bar's line.
const BAR_WIDTH: u64 = 40;

/// Draws a trace: the durable actions first, then every trace of spans.
pub(super) fn draw(trace: &wire::GetTraceResponse) -> String {
    let mut out = String::new();
    for action in &trace.actions {
        draw_action(&mut out, action);
    }
    let traces: BTreeSet<&[u8]> = trace.spans.iter().map(|span| &span.trace[..]).collect();
    let mut groups: Vec<Vec<&Span>> =
        traces.into_iter().map(|id| trace.spans.iter().filter(|span| span.trace == id).collect::<Vec<_>>()).collect();
    groups.sort_by_key(|spans| spans.iter().map(|span| span.start_us).min());
    for (number, spans) in groups.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        draw_spans(&mut out, spans);
    }
    if !trace.silent.is_empty() {
        let _infallible = writeln!(out, "no answer from {}", trace.silent.join(", "));
    }
    out
}

fn draw_action(out: &mut String, action: &wire::Action) {
    let took = match action.finish_us {
        0 => "not finished".to_owned(),
        finish => millis(finish.saturating_sub(action.start_us)),
    };
    let _infallible =
        writeln!(out, "{} {} of server {}: {took} {}", action.request_id, action.action, action.server, action.message);
    for step in &action.steps {
        let undo = if step.undo { "undo " } else { "" };
        let at = step.start_us.saturating_sub(action.start_us);
        let _infallible = writeln!(
            out,
            "  journal  +{:>9}  {:>9}  {undo}{} {}",
            millis(at),
            millis(step.took_us),
            step.name,
            step.error
        );
    }
    out.push('\n');
}

fn draw_spans(out: &mut String, spans: &[&Span]) {
    let start = spans.iter().map(|span| span.start_us).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.start_us + span.took_us).max().unwrap_or(start);
    let whole = (end - start).max(1);
    // Of several requests about one server each says which one it is.
    if let Some(request) = spans.iter().map(|span| &span.request_id).find(|request| !request.is_empty()) {
        let _infallible = writeln!(out, "{request}");
    }
    let known: BTreeSet<u64> = spans.iter().map(|span| span.id).collect();
    let mut children: BTreeMap<u64, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        // A parent that no ring holds any more leaves its children at the top.
        let parent = if known.contains(&span.parent) { span.parent } else { 0 };
        children.entry(parent).or_default().push(span);
    }
    children.values_mut().for_each(|siblings| siblings.sort_by_key(|span| (span.start_us, span.id)));
    let mut stack: Vec<(usize, &Span)> = children.get(&0).into_iter().flatten().rev().map(|span| (0, *span)).collect();
    while let Some((depth, span)) = stack.pop() {
        let at = span.start_us - start;
        let from = at * BAR_WIDTH / whole;
        let length = (span.took_us * BAR_WIDTH / whole).clamp(1, BAR_WIDTH - from.min(BAR_WIDTH - 1));
        let bar = format!("{}{}", " ".repeat(usize_of(from)), "█".repeat(usize_of(length)));
        let width = usize_of(BAR_WIDTH);
        let name = format!("{}{}", "  ".repeat(depth), short(&span.name));
        let error = if span.error.is_empty() { String::new() } else { format!("  ! {}", span.error) };
        let _infallible = writeln!(
            out,
            "+{:>9} {:>9}  {bar:<width$}  {:<16} {name}{error}",
            millis(at),
            millis(span.took_us),
            span.process
        );
        stack.extend(children.get(&span.id).into_iter().flatten().rev().map(|child| (depth + 1, *child)));
    }
}

/// `/mainstay.agent.v1.AgentService/Perform` as `AgentService/Perform`.
fn short(name: &str) -> &str {
    match name.strip_prefix("/mainstay.") {
        Some(rest) => rest.rsplit_once('.').map_or(rest, |(_, method)| method),
        None => name,
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_under_their_parents_wherever_they_ran() {
        let span = |id: u64, parent: u64, name: &str, process: &str, start_us: u64, took_us: u64| Span {
            trace: vec![1; 16].into(),
            id,
            parent,
            name: name.into(),
            process: process.into(),
            start_us,
            took_us,
            ..Span::default()
        };
        let spans = vec![
            span(3, 2, "/mainstay.agent.v1.AgentService/Perform", "agent/n1", 1200, 500),
            span(1, 0, "POST /servers", "control/main", 1000, 300),
            span(2, 1, "build on node", "control/main", 1100, 900),
        ];
        let text = draw(&wire::GetTraceResponse { spans, ..wire::GetTraceResponse::default() });
        let names: Vec<&str> = text.lines().map(|line| line.rsplit("  ").next().unwrap_or_default().trim()).collect();
        assert_eq!(names.len(), 3, "{text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with("  build on node")), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with("    AgentService/Perform")), "{text}");
    }
}
