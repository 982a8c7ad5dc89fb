//! The output of `doctor`.

use super::stream::print;
use super::text::escape_controls;
use aba_lock::admin::doctor::finding::{Finding, Level};
use aba_lock::base::environment::wants_colours;
use aba_lock::os;
use serde_json::{Value, json};

/// Prints findings: each one immediately, or as JSON all of them at the end.
#[derive(Debug)]
pub(crate) struct Findings {
    json: Option<Vec<Value>>,
    colour: bool,
    wrong: usize,
}

impl Findings {
    pub(crate) fn new(as_json: bool) -> Self {
        Self { json: as_json.then(Vec::new), colour: wants_colours(os::is_terminal(1)), wrong: 0 }
    }

    pub(crate) fn report(&mut self, finding: &Finding) {
        self.wrong += usize::from(finding.level == Level::Wrong);
        match &mut self.json {
            Some(list) => list.push(json!({
                "check": finding.check,
                "level": finding.level.as_str(),
                "found": finding.found,
                "hint": finding.hint,
            })),
            None => print(&self.format(finding)),
        }
    }

    /// Prints the summary, or the JSON. Returns true if nothing is wrong.
    pub(crate) fn print_summary(self) -> bool {
        match self.json {
            Some(list) => {
                let all = json!({ "version": env!("CARGO_PKG_VERSION"), "wrong": self.wrong, "findings": list });
                print(&format!("{all:#}\n"));
            }
            None => print(&match self.wrong {
                0 => "nothing is wrong\n".to_owned(),
                1 => "1 thing is wrong\n".to_owned(),
                wrong => format!("{wrong} things are wrong\n"),
            }),
        }
        self.wrong == 0
    }

    fn format(&self, finding: &Finding) -> String {
        let colour = match finding.level {
            Level::Fine => "32",
            Level::Note => "33",
            Level::Wrong => "1;31",
        };
        let word = finding.level.as_str();
        let gap = " ".repeat(7 - word.len());
        let word = if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let hint =
            finding.hint.as_ref().map(|hint| format!("       hint: {}\n", escape_controls(hint))).unwrap_or_default();
        format!("{word}{gap}{}: {}\n{hint}", finding.check, escape_controls(&finding.found))
    }
}
