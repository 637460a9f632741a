//! What a sweep found, as a table.

use std::collections::BTreeSet;

use super::trial::{Strike, Trial};
use super::{Extent, Script, run_all};

/// What came of sweeping one script.
#[derive(Clone, Debug)]
pub struct Line {
    /// The script.
    pub script: Script,
    /// Boundaries of the unharmed run.
    pub points: usize,
    /// Pairs of a crash and a second one in the recovery from it.
    pub pairs: usize,
    /// Those that were run.
    pub pairs_run: usize,
    /// Pairs of a failure and a lasting one on the way back.
    pub undone: usize,
    /// Those that were run.
    pub undone_run: usize,
    /// Runs in all.
    pub runs: usize,
    /// Runs whose harm was not done, because they never came to its place.
    pub missed: usize,
    /// Runs after which something was wrong.
    pub leaked: usize,
    /// Runs after which work was left.
    pub stuck: usize,
    /// The most effects from a crash to the end of all work.
    pub worst_effects: usize,
    /// The longest simulated time from a crash to the end of all work, in nanoseconds.
    pub worst_nanos: u64,
    /// Kinds of work that ran.
    pub kinds: BTreeSet<String>,
    /// Steps that were undone.
    pub undone_steps: BTreeSet<(String, usize)>,
    /// What was wrong, with the command that shows it again.
    pub findings: Vec<String>,
    seed: u64,
}

/// Findings that are kept: the first ones tell what the rest are about.
const FINDINGS_MAX: usize = 12;

impl Line {
    pub(super) fn new(script: Script, plain: &Trial) -> Line {
        Line {
            script,
            points: plain.points.len(),
            pairs: 0,
            pairs_run: 0,
            undone: 0,
            undone_run: 0,
            runs: 0,
            missed: 0,
            leaked: 0,
            stuck: 0,
            worst_effects: 0,
            worst_nanos: 0,
            kinds: BTreeSet::new(),
            undone_steps: BTreeSet::new(),
            findings: Vec::new(),
            seed: 0,
        }
    }

    pub(super) fn run(
        &mut self,
        what: &str,
        script: Script,
        extent: Extent,
        plans: &[Vec<Strike>],
    ) -> Vec<(Vec<Strike>, Trial)> {
        self.seed = extent.seed;
        let trials = run_all(script, extent, plans);
        for (plan, trial) in &trials {
            self.judge(what, plan, trial);
            if what == "crash" || what == "two crashes" {
                self.worst_effects = self.worst_effects.max(trial.recovery_effects);
                self.worst_nanos = self.worst_nanos.max(trial.recovery_nanos);
            }
        }
        trials
    }

    pub(super) fn judge(&mut self, what: &str, plan: &[Strike], trial: &Trial) {
        self.runs += 1;
        self.missed += usize::from(!trial.struck);
        self.leaked += usize::from(!trial.complaints.is_empty());
        self.stuck += usize::from(!trial.stuck.is_empty());
        self.kinds.extend(trial.kinds.iter().cloned());
        self.undone_steps.extend(trial.undone.iter().cloned());
        let wrong = trial.complaints.iter().map(|text| format!("wrong: {text}"));
        let stuck = trial.stuck.iter().map(|text| format!("left: {text}"));
        let missed = (!trial.struck).then(|| "the run never came to where it was to be harmed".to_owned());
        let found: Vec<String> = wrong.chain(stuck).chain(missed).collect();
        if !found.is_empty() && self.findings.len() < FINDINGS_MAX {
            let places = plan.iter().map(|strike| place(trial, strike)).collect::<Vec<_>>().join(", then ");
            let strikes = plan.iter().map(Strike::to_string).collect::<Vec<_>>().join(",");
            self.findings.push(format!(
                "{what}: {places}\n    {}\n    again: cargo xtask sweep --script {} --seed {} --strikes '{strikes}'",
                found.join("\n    "),
                self.script.name(),
                self.seed,
            ));
        }
    }

    /// Whether everything that was found to be swept was swept, and nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.missed == 0 && self.leaked == 0 && self.stuck == 0 && self.findings.is_empty()
    }
}

fn place(trial: &Trial, strike: &Strike) -> String {
    let point = trial.points.get(strike.at);
    let place = point.map(|point| format!("{} at {} {}", point.who, point.boundary.name(), point.detail));
    format!("{strike} ({})", place.unwrap_or_default())
}

/// All lines, for people.
pub struct Table<'a>(pub &'a [Line]);

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:<19} {:>6} {:>15} {:>15} {:>7} {:>7} {:>7} {:>6} {:>17}",
            "workflow", "points", "crash pairs", "failure pairs", "runs", "missed", "leaked", "stuck", "worst recovery"
        )?;
        for line in self.0 {
            writeln!(
                f,
                "{:<19} {:>6} {:>15} {:>15} {:>7} {:>7} {:>7} {:>6} {:>8} {:>6.1} s",
                line.script.name(),
                line.points,
                format!("{} of {}", line.pairs_run, line.pairs),
                format!("{} of {}", line.undone_run, line.undone),
                line.runs,
                line.missed,
                line.leaked,
                line.stuck,
                line.worst_effects,
                line.worst_nanos as f64 / 1e9,
            )?;
        }
        Ok(())
    }
}
