//! Plain data and text that all layers above use.

pub mod names;
pub mod target;
