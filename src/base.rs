//! Plain data and text for all layers above: names, targets, time spans, texts of messages, and the environment.
//!
//! The layers, the lowest first: [`text`], [`duration`], [`error`] and [`version`]; [`names`], [`key`], [`target`] and [`environment`];
//! [`programs`]; [`command_error`].

pub mod command_error;
pub mod duration;
pub mod environment;
pub mod error;
pub mod key;
pub mod names;
pub mod programs;
pub mod target;
pub mod text;
pub mod version;
