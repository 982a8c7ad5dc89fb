//! Numbers from a range that are never given to two callers.

pub mod book;
pub mod dotenv;
pub mod error;
pub mod gone;
pub mod group;
pub mod lease;
pub mod list;
pub mod plan;
pub mod pool;
pub mod registry;
pub mod reservation;
