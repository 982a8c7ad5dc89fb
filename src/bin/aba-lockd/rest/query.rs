//! The parameters in the queries of the lists and of the stream of events.
//!
//! Unknown parameters are ignored, except other spellings of a known one.

use super::json::check_spelling;
use crate::error::CallError;
use crate::lock_manager::MAX_HISTORY_PART;
use crate::model::{LockFields, LockQuery};
use crate::past_lock::HistoryQuery;
use std::borrow::Cow;

/// Maximum number of characters of a parameter. No member of a lock is longer.
const MAX_PARAMETER: usize = 1024;

/// The number of locks in an answer with the history, unless the query has another one.
const HISTORY_PART: usize = 100;

/// The parameters that select locks by a field.
const FIELDS: [&str; 6] = ["service", "environment", "resource", "who", "event_id", "eventId"];

/// The name and the value of a parameter.
type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

fn read_parameters(text: &str) -> Result<Vec<Parameter<'_>>, CallError> {
    let parameters: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
    match parameters.iter().find(|(_, value)| value.chars().count() > MAX_PARAMETER) {
        Some((name, _)) => Err(CallError::Invalid(format!("{name} is longer than {MAX_PARAMETER} characters"))),
        None => Ok(parameters),
    }
}

/// Sets the field of this name. Returns false if there is none.
fn set_field(fields: &mut LockFields, name: &str, value: &str) -> bool {
    let field = match name {
        "service" => &mut fields.service,
        "environment" => &mut fields.environment,
        "resource" => &mut fields.resource,
        "who" => &mut fields.who,
        // An empty value does not replace that of the other spelling.
        "event_id" | "eventId" if value.is_empty() => return true,
        "event_id" | "eventId" => &mut fields.event_id,
        _ => return false,
    };
    value.clone_into(field);
    true
}

fn split_words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_lowercase).collect()
}

fn check_name(name: &str, others: &[&'static str]) -> Result<(), CallError> {
    check_spelling(name, &[&FIELDS, others].concat())
}

/// Parses the query of a list.
pub(super) fn parse_list_query(text: &str) -> Result<LockQuery, CallError> {
    let mut query = LockQuery { page: 1, ..LockQuery::default() };
    for (name, value) in read_parameters(text)? {
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| CallError::Invalid(format!("{name} must be a number of at least 1, not {value}")))
        };
        match &*name {
            "q" => query.words = split_words(&value),
            "page" => query.page = number()?,
            "per_page" | "perPage" => query.per_page = Some(number()?),
            name if set_field(&mut query.fields, name, &value) => (),
            name => check_name(name, &["q", "page", "per_page", "perPage"])?,
        }
    }
    Ok(query)
}

/// Parses the query of the history.
pub(super) fn parse_history_query(text: &str) -> Result<HistoryQuery, CallError> {
    let mut query = HistoryQuery { selection: LockQuery::default(), limit: HISTORY_PART, before: None };
    for (name, value) in read_parameters(text)? {
        match &*name {
            "q" => query.selection.words = split_words(&value),
            "limit" => {
                query.limit = value.parse().map_err(|_| {
                    CallError::Invalid(format!("limit must be a number from 1 to {MAX_HISTORY_PART}, not {value}"))
                })?;
            }
            "before" => query.before = Some(value.into_owned()).filter(|value| !value.is_empty()),
            name if set_field(&mut query.selection.fields, name, &value) => (),
            name => check_name(name, &["q", "limit", "before"])?,
        }
    }
    Ok(query)
}

/// Parses the query of the stream of events, which selects keys.
pub(super) fn parse_event_query(text: &str) -> Result<LockFields, CallError> {
    let mut fields = LockFields::default();
    for (name, value) in read_parameters(text)? {
        match &*name {
            "service" | "environment" | "resource" => drop(set_field(&mut fields, &name, &value)),
            name => check_spelling(name, &FIELDS[..3])?,
        }
    }
    Ok(fields)
}
