//! Groups.

use super::error::NumberError;
use super::pool::{Pool, Tag};
use super::variable::{derive_variable, has_special_meaning, is_variable_name};
use std::collections::HashSet;

/// One number of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedNumber {
    /// What it is for.
    pub tag: Tag,
    /// Where it is, from the base on.
    pub offset: u32,
    /// The number that it is to be if that can be had.
    pub preferred: Option<u32>,
    /// The variable that it is told in, if that is not made of the tag.
    pub variable: Option<String>,
}

/// Numbers that are given together.
#[derive(Debug, PartialEq, Eq)]
pub struct NumberGroup {
    /// Out of which pool.
    pub pool: Pool,
    /// Where to begin if that can be had.
    pub base: Option<u32>,
    /// The numbers.
    pub wants: Vec<WantedNumber>,
    /// Whether to fail if a preferred number cannot be had.
    pub require: bool,
}

impl NumberGroup {
    /// Numbers one after the other, for these tags.
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

    /// The variables in which the numbers are told, in their order. Each is checked: nothing but a name comes out.
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
