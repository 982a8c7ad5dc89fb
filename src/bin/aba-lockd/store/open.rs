//! Opens the store that the option `--store` names, for `lifecycle`, and translates the errors of all stores into
//! messages for the user.

use crate::environment;
use crate::error::{CallError, StartError};
use crate::event_feed::EventFeed;
use crate::store::etcd::store::EtcdStore;
use crate::store::lock_store::LockStore;
use crate::store::sqlite::{SqliteStore, file_lock};
use crate::telemetry::Telemetry;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct OpenStore {
    pub(crate) backend: Arc<dyn LockStore>,
    /// The value of `--store`.
    pub(crate) name: String,
    /// Excludes other services from an SQLite store. `None` for etcd, which several services share.
    _file_lock: Option<file_lock::StoreFileLock>,
}

/// Opens the store of this name, or the default store.
pub(crate) async fn open_store(
    name: Option<&str>,
    token_base: u64,
    telemetry: Arc<Telemetry>,
    feed: Arc<EventFeed>,
) -> Result<OpenStore, StartError> {
    if let Some(endpoints) = name.and_then(|name| name.strip_prefix("etcd://")) {
        let store = EtcdStore::open(endpoints, token_base, telemetry, feed).await.map_err(|error| match error {
            CallError::Invalid(why) => StartError::usage(format!("invalid store: --store etcd://{endpoints}: {why}")),
            CallError::Fault(why) => StartError::new(format!("cannot open store etcd://{endpoints}: {why}")),
            error => StartError::new(format!("cannot open store etcd://{endpoints}: {error}")),
        })?;
        return Ok(OpenStore { backend: Arc::new(store), name: format!("etcd://{endpoints}"), _file_lock: None });
    }
    let path = match name {
        Some(name) => name.strip_prefix("sqlite:").map(|path| Path::new(path).to_owned()),
        None => Some(environment::default_store_path().ok_or_else(|| {
            StartError::new("no directory for the store: HOME is not set, or is not a directory".to_owned())
                .with_hint("use --store sqlite:PATH")
        })?),
    };
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        let message = format!("invalid store: --store {}", name.unwrap_or_default());
        return Err(
            StartError::usage(message).with_hint("use --store sqlite:PATH, or --store etcd://HOST:PORT,HOST:PORT")
        );
    };
    // SQLite gives these names another meaning than the path of a file.
    if path.as_os_str() == ":memory:" || path.as_os_str().as_bytes().starts_with(b"file:") {
        let message = format!("invalid store: --store sqlite:{} does not name a file", path.display());
        return Err(StartError::usage(message).with_hint("use --store sqlite:./PATH"));
    }
    let file_lock = file_lock::acquire(&path)?;
    let store = SqliteStore::open(&file_lock.path, token_base, telemetry, feed).map_err(|error| StartError {
        hint: error.hint.map(str::to_owned),
        ..StartError::new(format!("cannot open store {}: {}", path.display(), error.why))
    })?;
    let name = format!("sqlite:{}", path.display());
    Ok(OpenStore { backend: Arc::new(store), name, _file_lock: Some(file_lock) })
}
