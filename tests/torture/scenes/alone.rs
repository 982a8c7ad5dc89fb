//! The scenes of a script that is alone: no other process wants its locks, so no call of the script may be refused, whatever happened
//! to the helper of an earlier call. A killed helper can leave a lock on a descriptor of the script. The next call must not ask for
//! it on another descriptor.

use super::checks::{call_next, must};
use crate::driver::{Call, Outcome};
use crate::place::{Place, becomes_free};
use crate::scene::{Scene, Verdict};
use crate::{environment, kernel};
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call| Scene { name, call, judge };
    vec![
        scene("a script alone, one name", |place| run_alone(place, "aba_lock_operation a")),
        scene("a script alone, two names", |place| run_alone(place, "aba_lock_operation a b")),
        scene("a script alone, with an option", |place| run_alone(place, "aba_lock_operation -w a")),
        scene("a script alone, after unlock", |place| run_alone(place, UNLOCKED)),
        scene("a script alone, after unlock of one of two", |place| run_alone(place, ONE_UNLOCKED)),
        scene("a script alone, nested", |place| run_alone(place, NESTED)),
        scene("a script alone on a read-only disk", |place| run_read_only(place, "aba_lock_operation a")),
        scene("a script alone on a read-only disk, with an option", |place| {
            run_read_only(place, "aba_lock_operation -w a")
        }),
        scene("a script alone on a read-only disk, after unlock", |place| run_read_only(place, UNLOCKED)),
        scene("a script alone on a read-only disk, nested", |place| run_read_only(place, NESTED)),
    ]
}

const UNLOCKED: &str = "aba_lock_operation a; aba_unlock_operation a";
const ONE_UNLOCKED: &str = "aba_lock_operation a b; aba_unlock_operation a";
const NESTED: &str = r#"aba_lock_operation a; bash -c "$AGAIN; aba_lock_operation a""#;

/// Locks again at the end of a script, on which a failed call does not end it.
const AGAIN: &str = r#"source "$LIBRARY"
again() {
    aba_lock_operation --on-conflict return a b
    case $? in
        0) "$TORTURE" payload probe-all "$LOG" "$ONE" "$OTHER" ;;
        1) echo refused >>"$LOG" ;;
    esac
}
trap again EXIT"#;

fn run_alone(place: &Place, script: &str) -> Call {
    place.run_helper(["lock", "a", "b", "--", "true"]);
    Call::bash(&format!("{AGAIN}\n{script}"))
        .variable("AGAIN", AGAIN)
        .variable("LOG", place.path("log").to_string_lossy())
        .variable("ONE", place.lock_file("a").to_string_lossy())
        .variable("OTHER", place.lock_file("b").to_string_lossy())
}

/// Does the same with lock files that cannot be written.
fn run_read_only(place: &Place, script: &str) -> Call {
    if environment::may_mount() {
        fs::create_dir(place.root()).unwrap();
        kernel::mount(c"tmpfs", &place.root(), 0, "size=1m").unwrap();
    }
    let call = run_alone(place, script);
    for name in ["a", "b"] {
        fs::set_permissions(place.lock_file(name), fs::Permissions::from_mode(0o400)).unwrap();
    }
    if environment::may_mount() {
        kernel::mount(c"tmpfs", &place.root(), libc::MS_REMOUNT | libc::MS_RDONLY, "").unwrap();
    }
    call
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    // The helper knows its ancestors only if it finds its own number in /proc/self.
    let has_ancestors = outcome.hit != Some(libc::SYS_readlink);
    must(!has_ancestors || !log.contains("refused"), "the script was refused, and no other process wanted the lock")?;
    must(!log.contains("without"), "the script went on without the lock")?;
    must(["a", "b"].iter().all(|name| becomes_free(&place.lock_file(name))), "a lock outlived the script")?;
    call_next(place, &["lock", "a", "b", "--", "true"]).map(drop)
}
