//! The type of a finding, which is one place that breaks a rule, and the list of the rules.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Files import each other in a cycle.
    Cycle,
    /// An import points up in the list of layers, or a module is in no layer.
    Layer,
    /// A type name is defined twice.
    TypeName,
    /// A function or module has a name that says nothing.
    Word,
    /// A file belongs to no program.
    Unlisted,
    /// A file is too long.
    Length,
    /// A comment or a message has a phrase that makes readers stumble.
    Phrase,
    /// A message begins with a capital letter, or has a full stop or blanks where it should not.
    Message,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn new(rule: Rule, file: &str, line: usize, text: impl Into<String>) -> Self {
        Self { file: file.into(), line, rule, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {:?}: {}", self.file, self.line, self.rule, self.text)
    }
}
