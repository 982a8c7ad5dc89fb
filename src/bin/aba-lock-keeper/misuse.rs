//! The messages about command lines that cannot be parsed, in the form of those of the helper. The service includes this
//! file.

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
            format!("missing argument: {}", missing.replace(['<', '>'], ""))
        }
        _ => {
            // The first paragraph of the text of clap. The others are tips and the usage.
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            text.lines()
                .map_while(|line| Some(line.trim()).filter(|line| !line.is_empty()))
                .collect::<Vec<_>>()
                .join(" ")
        }
    }
}

/// Returns the hint: the word that the user probably meant, or the command that prints the help.
pub(crate) fn find_hint(error: &clap::Error, help: &str) -> String {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    match kinds.into_iter().find_map(|kind| find_context(error, kind)) {
        Some(similar) => format!("did you mean `{}`?", similar.replace(", ", "` or `")),
        None => format!("see `{help}`"),
    }
}

fn find_context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}
