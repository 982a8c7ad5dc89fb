//! Plain data and text that all layers above use: names, targets, time spans, text of messages, and the environment.

pub mod duration;
pub mod environment;
pub mod error;
pub mod names;
pub mod programs;
pub mod target;
pub mod text;
