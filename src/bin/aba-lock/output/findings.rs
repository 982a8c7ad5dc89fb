//! What `doctor` prints.

use super::{plain, print};
use aba_lock::admin::doctor::{Finding, Level};
use aba_lock::{os, store};
use serde_json::{Value, json};

/// Tells of findings: each at once, or as JSON all together.
#[derive(Debug)]
pub(crate) struct Findings {
    json: Option<Vec<Value>>,
    colour: bool,
    wrong: usize,
}

impl Findings {
    pub(crate) fn new(as_json: bool) -> Self {
        Self { json: as_json.then(Vec::new), colour: store::wants_colours(os::is_terminal(1)), wrong: 0 }
    }

    pub(crate) fn tell(&mut self, finding: &Finding) {
        self.wrong += usize::from(finding.level == Level::Wrong);
        match &mut self.json {
            Some(list) => list.push(json!({
                "check": finding.check,
                "level": finding.level.as_str(),
                "found": finding.found,
                "hint": finding.hint,
            })),
            None => print(&self.lines(finding)),
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn end(self) -> bool {
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

    fn lines(&self, finding: &Finding) -> String {
        let colour = match finding.level {
            Level::Fine => "32",
            Level::Note => "33",
            Level::Wrong => "1;31",
        };
        let word = finding.level.as_str();
        let gap = " ".repeat(7 - word.len());
        let word = if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let hint = finding.hint.as_ref().map(|hint| format!("       hint: {}\n", plain(hint))).unwrap_or_default();
        format!("{word}{gap}{}: {}\n{hint}", finding.check, plain(&finding.found))
    }
}
