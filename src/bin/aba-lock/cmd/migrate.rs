use crate::args::reserve::Migrate;
use crate::exit;
use crate::report::{numbers, updates};
use aba_lock::error::Error;
use aba_lock::reserve::registry::{self, Absent, Registry};
use aba_lock::reserve::{self, plan};
use aba_lock::store::Store;

pub(crate) fn run(args: &Migrate) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let from = reserve::directory_or_gone(Some(&args.from))?;
    let to = reserve::directory(Some(&args.to))?;
    let mut progress = updates::Progress::new(false);
    let wait = super::short_wait(args.timeout)?;
    // All that are changed are locked before one is written: in the order of their names, as by everyone.
    let mut registries = Vec::new();
    for pool in registry::pools(&store)? {
        let mut registry = Registry::begin(&store, &pool, Absent::Leave, wait, &mut progress)?;
        let moved = plan::migrate(&mut registry, &from, &to)?;
        registries.push((registry, moved));
    }
    for (registry, moved) in registries {
        if args.dry_run {
            numbers::moved(&moved);
        } else {
            registry.commit()?;
        }
    }
    Ok(exit::DONE)
}
