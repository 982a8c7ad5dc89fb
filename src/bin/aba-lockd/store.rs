//! The stores of locks. `lock_store` is the trait that both implement, and says what every store guarantees; `sqlite`
//! keeps the locks of one service in a file, `etcd` those of several services in a cluster; `open` opens the one that
//! `--store` names.

pub(crate) mod lock_store;
pub(crate) mod open;

mod etcd;
mod grant;
mod history_record;
mod lock_json;
mod origin;
mod sqlite;
