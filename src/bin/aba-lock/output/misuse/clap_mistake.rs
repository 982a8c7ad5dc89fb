//! The messages about command lines that cannot be parsed. The helper and the service include this file.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Describes the mistake that clap found, in one line.
pub(crate) fn describe(error: &clap::Error) -> String {
    match (error.kind(), find_context(error, ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand, _) => {
            format!("no such command: {}", find_context(error, ContextKind::InvalidSubcommand).unwrap_or_default())
        }
        (ErrorKind::UnknownArgument, Some(word)) if word.starts_with('-') => format!("no such option: {word}"),
        (ErrorKind::UnknownArgument, Some(word)) => format!("unexpected argument: {word}"),
        (ErrorKind::MissingRequiredArgument, Some(missing)) => {
            format!("missing argument: {}", missing.replace(['<', '>'], "").replace('|', " or "))
        }
        _ => {
            // The first paragraph of the text of clap. The others are tips and the usage.
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let lines = text.lines().map_while(|line| Some(line.trim()).filter(|line| !line.is_empty()));
            // The error of a number in the standard library.
            lines.collect::<Vec<_>>().join(" ").replace("invalid digit found in string", "not a number")
        }
    }
}

/// Returns the hint about a word that differs little from a valid one.
pub(crate) fn find_similar(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let similar = kinds.into_iter().find_map(|kind| find_context(error, kind))?;
    Some(format!("did you mean `{}`?", similar.replace(", ", "` or `")))
}

/// Returns a part of what clap found, such as the wrong word.
pub(crate) fn find_context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}
