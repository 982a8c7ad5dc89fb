use crate::args::Unlock;
use crate::{exit, report};
use aba_lock::error::Error;
use aba_lock::store::Store;
use aba_lock::{holders, lock};

pub(crate) fn run(args: &Unlock) -> Result<i32, Error> {
    let target = match &args.name {
        Some(name) => Some(super::named(&Store::from_env()?, name)?),
        None => None,
    };
    match (args.fd, target) {
        (Some(fd), target) => {
            lock::release(fd, target.as_ref().map(|target| target.path.as_path()))?;
            Ok(exit::DONE)
        }
        (None, Some(target)) => {
            holders::can_be_known(&target.path)?;
            let Some(holding) = holders::of(&target.path).holding else { return Ok(exit::DONE) };
            report::not_ours(&target, &holding);
            Ok(exit::BUSY)
        }
        (None, None) => Ok(exit::USAGE),
    }
}
