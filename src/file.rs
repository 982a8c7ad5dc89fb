//! Files of the user: read, change and replace them under a lock.

pub mod edit;
pub mod error;
pub mod filter;
pub mod update;
