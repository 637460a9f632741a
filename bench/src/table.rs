//! The one table: what was measured, what is aimed at, what a peer makes of it.

use serde::Serialize;

use crate::stats::{median, ratio};

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Nothing is promised: it is stated.
    Stated,
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At least this share of the peer's.
    OfPeer(f64),
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What it should be.
    pub aim: Aim,
    /// What it is.
    pub measured: f64,
    /// The unit of all three.
    pub unit: &'static str,
    /// What the bare peer did in the same run.
    pub peer: Option<f64>,
    /// Ours as a share of that.
    pub ratio: Option<f64>,
    /// What it was compared with, and how it was measured.
    pub against: String,
}

impl Row {
    /// A figure that is only stated.
    pub fn new(what: impl Into<String>, measured: f64, unit: &'static str) -> Row {
        Row { what: what.into(), aim: Aim::Stated, measured, unit, peer: None, ratio: None, against: String::new() }
    }

    /// With an aim.
    #[must_use]
    pub fn aim(self, aim: Aim) -> Row {
        Row { aim, ..self }
    }

    /// With what the peer did in rounds beside `ours`.
    #[must_use]
    pub fn peer(self, ours: &[f64], peers: &[f64]) -> Row {
        Row { peer: Some(median(peers)), ratio: Some(ratio(ours, peers)), ..self }
    }

    /// With what it was compared with or how it came about.
    #[must_use]
    pub fn against(self, against: impl Into<String>) -> Row {
        Row { against: against.into(), ..self }
    }

    /// Whether it is what it should be, if that was said.
    fn met(&self) -> Option<bool> {
        match self.aim {
            Aim::Stated => None,
            Aim::AtLeast(bound) => Some(self.measured >= bound),
            Aim::AtMost(bound) => Some(self.measured <= bound),
            Aim::OfPeer(share) => self.ratio.map(|ratio| ratio >= share),
        }
    }

    fn aimed(&self) -> String {
        match self.aim {
            Aim::Stated => String::new(),
            Aim::AtLeast(bound) => format!("≥ {} {}", number(bound), self.unit),
            Aim::AtMost(bound) => format!("≤ {} {}", number(bound), self.unit),
            Aim::OfPeer(share) => format!("≥ {} % of peer", number(share * 100.0)),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        }
    }

    fn beside(&self) -> String {
        match (self.ratio, self.peer) {
            (Some(ratio), Some(peer)) => format!("{:.0} % of {}", 100.0 * ratio, number(peer)),
            (Some(_) | None, _) => String::new(),
        }
    }

    /// The row in cells, as [`render`] lays them out.
    fn cells(&self) -> [String; 6] {
        let measured = format!("{} {}", number(self.measured), self.unit);
        let (what, against) = (self.what.clone(), self.against.clone());
        [what, self.aimed(), measured.trim_end().to_owned(), self.verdict().to_owned(), self.beside(), against]
    }

    /// One line, for those who watch.
    pub fn line(&self) -> String {
        let cells = self.cells();
        cells.iter().filter(|cell| !cell.is_empty()).map(String::as_str).collect::<Vec<_>>().join("  |  ")
    }
}

/// Three digits that mean something, thousands set apart.
fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::new();
    let bare = whole.trim_start_matches('-').len();
    for (at, digit) in whole.trim_start_matches('-').chars().enumerate() {
        if at > 0 && (bare - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    fraction.map_or_else(|| format!("{sign}{out}"), |fraction| format!("{sign}{out}.{fraction}"))
}

/// The table in Markdown, which people read as it is.
pub fn render(rows: &[Row]) -> String {
    let head = ["what", "aim", "measured", "", "beside the peer", "compared with"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    // The last column is prose: it is not padded.
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(widths.iter().copied().chain([0]));
        let cells: Vec<String> = padded.map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
        if at == 0 {
            let rule: Vec<String> = widths.iter().chain([&3]).map(|width| "-".repeat((*width).max(3))).collect();
            out.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_aim_was_met() {
        let row = |aim| Row::new("creates", 700.0, "/s").aim(aim).peer(&[700.0], &[1000.0]);
        assert_eq!(row(Aim::AtLeast(700.0)).met(), Some(true));
        assert_eq!(row(Aim::AtLeast(701.0)).met(), Some(false));
        assert_eq!(row(Aim::AtMost(699.0)).met(), Some(false));
        assert_eq!(row(Aim::OfPeer(0.7)).met(), Some(true));
        assert_eq!(row(Aim::OfPeer(0.71)).met(), Some(false));
        assert_eq!(row(Aim::Stated).met(), None);
    }

    #[test]
    fn numbers_keep_three_digits_and_group_thousands() {
        for (value, text) in [(0.0, "0"), (0.0123, "0.012"), (1.5, "1.5"), (12.34, "12.3"), (1234567.8, "1,234,568")] {
            assert_eq!(number(value), text);
        }
        assert_eq!((number(-1234.0), number(999.4)), ("-1,234".to_owned(), "999".to_owned()));
    }

    #[test]
    fn the_table_lines_up() {
        let rows = [
            Row::new("creates", 412.0, "/s").aim(Aim::AtLeast(1000.0)).against("64 clients"),
            Row::new("rpc", 7500.0, "/s").aim(Aim::OfPeer(0.7)).peer(&[7500.0], &[10000.0]),
        ];
        let table = render(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert_eq!(lines[2], "| creates | ≥ 1,000 /s     | 412 /s   | MISSED |                 | 64 clients |");
        assert_eq!(lines[3], "| rpc     | ≥ 70 % of peer | 7,500 /s | met    | 75 % of 10,000  |  |");
    }
}
