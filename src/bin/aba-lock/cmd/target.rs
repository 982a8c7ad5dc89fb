//! The locks that the arguments of a command name: by NAME or by `--key TEXT`.

use aba_lock::base::key::LockKey;
use aba_lock::base::names::LockName;
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::store::Store;
use std::ffi::{OsStr, OsString};

/// Returns the locks of `names`, and then those of `keys`. If the name of a key is among the names, the key only adds its text.
pub(super) fn list_targets(store: &Store, names: &[String], keys: &[OsString]) -> Result<Vec<Target>, Error> {
    let name = |name: &String| LockName::parse(name).map(|name| store.target(&name));
    let mut targets: Vec<Target> = names.iter().map(name).collect::<Result<_, _>>()?;
    for key in keys {
        let target = store.key_target(&LockKey::parse(key)?);
        match targets.iter_mut().find(|other| other.path == target.path) {
            Some(other) => *other = target,
            None => targets.push(target),
        }
    }
    Ok(targets)
}

/// Returns the lock of the name or of the key. `None`: neither is given.
pub(super) fn find_target(name: Option<&str>, key: Option<&OsStr>) -> Result<Option<Target>, Error> {
    Ok(match (name, key) {
        (Some(name), _) => Some(Store::from_env()?.target(&LockName::parse(name)?)),
        (None, Some(key)) => Some(Store::from_env()?.key_target(&LockKey::parse(key)?)),
        (None, None) => None,
    })
}
