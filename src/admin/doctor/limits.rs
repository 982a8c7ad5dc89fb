//! The check of the resource limits (`ulimit`) that scripts and helpers inherit from this process.

use super::finding::{Finding, Report};
use crate::os;

const LIMITS: &str = "limits";

/// The descriptors on which the shell library holds the locks of a script: the first one and the last one.
const FIRST_FD: u64 = 200;
const LAST_FD: u64 = 254;

/// The maximum size of a holder record in bytes. A process with a lower limit on file sizes cannot write its record.
const MAX_RECORD: u64 = 8192;

pub(super) fn check_limits(report: Report) {
    let (files, hard_limit) = os::limit_of_open_files();
    let raise =
        if hard_limit > files && hard_limit > FIRST_FD { "`ulimit -n 1024`" } else { "as root, or in limits.conf(5)" };
    report(match files {
        0..=FIRST_FD => {
            let found = format!("ulimit -n is {files}, but aba_lock_operation needs descriptor {FIRST_FD}");
            Finding::wrong(LIMITS, found).hint(format!("raise it: {raise}"))
        }
        _ if files <= LAST_FD => {
            let found = format!("ulimit -n is {files}: a script can hold {} locks at once", files - FIRST_FD);
            Finding::note(LIMITS, found).hint(format!("if that is too few, raise it: {raise}"))
        }
        _ => Finding::fine(LIMITS, format!("ulimit -n is {}", format_limit(files))),
    });
    let size = os::limit_of_file_size();
    if size < MAX_RECORD {
        let found = format!("ulimit -f allows only files of {size} bytes: the holder of a lock cannot be recorded");
        report(Finding::note(LIMITS, found).hint("raise it: `ulimit -f unlimited`"));
    }
}

fn format_limit(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}
