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
        (None, Some(target)) => match holders::of(&target.path).holding {
            Some(holding) => {
                report::not_ours(&target, &holding);
                Ok(exit::BUSY)
            }
            None => Ok(exit::DONE),
        },
        (None, None) => Ok(exit::USAGE),
    }
}
