//! One service a file: the lock for it is one of aba-lock's own, on a file beside the store.

use crate::serve::Failure;
use aba_lock::error::Error;
use aba_lock::holders;
use aba_lock::lock::{self, Acquired, Contention, Kind, Mode, Request, Target, Wait, Waiting};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

/// No other service has the store while this is there.
#[derive(Debug)]
pub(crate) struct Alone {
    _locks: Acquired,
}

struct Silent;

impl Contention for Silent {
    fn interval(&self) -> Option<Duration> {
        None
    }
    fn begins(&mut self, _: &Waiting) {}
    fn tick(&mut self, _: &Waiting) {}
    fn ends(&mut self) {}
}

/// Makes the directory of the store where it is not there, and takes the store for us.
pub(crate) fn take(path: &Path) -> Result<Alone, Failure> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Failure::new(format!("could not make directory {}: {error}", directory.display())))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let target = Target { label: format!("store {}", path.display()), path: beside.into(), kind: Kind::Beside };
    let request = Request {
        mode: Mode::Exclusive,
        wait: Wait::No,
        holder: std::process::id(),
        command: None,
        who: Some("aba-lockd"),
    };
    match lock::acquire(vec![target.clone()], None, &request, &mut Silent) {
        Ok(locks) => Ok(Alone { _locks: locks }),
        Err(error @ Error::Busy { .. }) => {
            let sentence = match holders::of(&target.path).holding {
                Some(holding) => format!("{error}: pid {}", holders::numbers(&holding.holders)),
                None => error.to_string(),
            };
            Err(Failure::new(sentence).hint("one service serves one file; give the second its own --store"))
        }
        Err(error) => Err(Failure { hint: error.hint(), ..Failure::new(error.to_string()) }),
    }
}
