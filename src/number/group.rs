//! A group of numbers that are reserved together: the caller gets all of them, or none. A request for one number is a
//! group of one.

use super::error::NumberError;
use super::pool::{Pool, Tag};
use super::variable::{derive_variable, has_special_meaning, is_variable_name};
use std::collections::HashSet;

/// One number of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedNumber {
    pub tag: Tag,
    /// The distance from the base.
    pub offset: u32,
    /// The number to use if it is available.
    pub preferred: Option<u32>,
    /// The variable for the number, if the default is not used.
    pub variable: Option<String>,
}

/// Numbers that are reserved together.
#[derive(Debug, PartialEq, Eq)]
pub struct NumberGroup {
    pub pool: Pool,
    /// The number to start at if all numbers of the group are available from there.
    pub base: Option<u32>,
    pub wants: Vec<WantedNumber>,
    /// If true, the request fails if a preferred number is not available.
    pub require: bool,
}

impl NumberGroup {
    /// Creates a group of consecutive numbers from a list of tags that are separated by commas.
    pub fn from_tags(pool: &Pool, tags: &str) -> Result<Self, NumberError> {
        let (mut wants, mut seen) = (Vec::new(), HashSet::new());
        for (tag, offset) in tags.split(',').zip(0..) {
            let tag = Tag::parse(tag)?;
            if !seen.insert(tag.clone()) {
                return Err(NumberError::SameTag { tag: tag.to_string() });
            }
            wants.push(WantedNumber { tag, offset, ..WantedNumber::default() });
        }
        Ok(Self { pool: pool.clone(), base: None, wants, require: false })
    }

    /// Returns the variable of each number, in the order of the group. Each name is checked, because a shell may
    /// evaluate it.
    pub fn variables(&self) -> Result<Vec<String>, NumberError> {
        let (mut names, mut seen) = (Vec::new(), HashSet::new());
        for want in &self.wants {
            let name = want.variable.clone().unwrap_or_else(|| derive_variable(&self.pool, &want.tag));
            if !is_variable_name(&name) {
                return Err(NumberError::Variable { name, tag: want.tag.to_string() });
            }
            if has_special_meaning(&name) {
                return Err(NumberError::TakenVariable { name });
            }
            if !seen.insert(name.clone()) {
                return Err(NumberError::SameVariable { name });
            }
            names.push(name);
        }
        Ok(names)
    }
}
