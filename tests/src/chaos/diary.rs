//! What happened, line by line: the time since the beginning, who, and what.

use std::sync::Mutex;
use std::time::Instant;

/// Lines that are shown again when a storm fails.
const SHOWN_AGAIN: usize = 30;

/// Says each event and remembers it.
pub(super) struct Diary {
    begun: Instant,
    lines: Mutex<Vec<String>>,
}

impl Diary {
    pub(super) fn new() -> Diary {
        Diary { begun: Instant::now(), lines: Mutex::default() }
    }

    pub(super) fn note(&self, who: &str, what: &str) {
        let line = format!("{:7.1} s  {who:12} {what}", self.begun.elapsed().as_secs_f64());
        println!("{line}");
        self.lines.lock().expect("nobody panics while writing").push(line);
    }

    /// The last events.
    pub(super) fn last(&self) -> String {
        let lines = self.lines.lock().expect("nobody panics while writing");
        lines[lines.len().saturating_sub(SHOWN_AGAIN)..].join("\n")
    }
}
