//! The scenes of `aba_lock_operation --no-inherit`. After each call, the lock is free, whatever the script left running. A script that
//! goes on holds the lock, or has got SIGTERM.

use super::checks::{call_next, lock_until_called, must};
use crate::driver::{Call, Outcome};
use crate::place::{self, Place, becomes_free};
use crate::scene::{Scene, Verdict};

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("a script, --no-inherit, the first ever", |place| run(place, &format!("{LOCK} a\n{INSIDE}")), judge),
        scene("a script, --no-inherit, free", |place| run(create_file(place), &format!("{LOCK} a\n{INSIDE}")), judge),
        scene(
            "a script, --no-inherit, with a daemon",
            |place| run(create_file(place), &format!("{LOCK} a\n{DAEMON}\n{INSIDE}")),
            judge,
        ),
        scene(
            "a script, --no-inherit, killed",
            |place| run(create_file(place), &format!("{LOCK} a\n{DAEMON}\n{INSIDE}\nkill -9 $$")),
            judge,
        ),
        scene("a script, --no-inherit, held", |place| run(hold(place), &format!("{LOCK} a\n{INSIDE}")), judge_refused),
        scene(
            "a script, --no-inherit, waited for",
            |place| {
                run(create_file(place), &format!("{LOCK} -w a\n{INSIDE}"))
                    .when_it_waits(lock_until_called(&place.lock_file("a")))
            },
            judge,
        ),
        scene(
            "a script, --no-inherit, that handles SIGTERM",
            |place| run(create_file(place), &format!("{TRAP}\n{LOCK} a\n{TOLD}")),
            judge_told,
        ),
        scene(
            "a script, --no-inherit, unlock",
            |place| run(create_file(place), &format!("{TRAP}\n{LOCK} a\n{TOLD}\n{UNLOCK}")),
            judge_unlock,
        ),
        scene(
            "a script, --no-inherit, two names",
            |place| run(create_file(place), &format!("{LOCK} a b\n{INSIDE}")),
            judge,
        ),
        scene(
            "a script, --no-inherit, nested",
            |place| run(create_file(place), &format!("{LOCK} a\naba_lock_operation a\n{LOCK} a\n{INSIDE}")),
            judge,
        ),
        scene(
            "a script, --no-inherit, exec",
            |place| {
                let inside = INSIDE.replacen("\"$TORTURE\"", "exec \"$TORTURE\"", 1);
                run(create_file(place), &format!("{LOCK} a\n{inside}"))
            },
            judge_exec,
        ),
    ]
}

const LOCK: &str = "aba_lock_operation --no-inherit";

/// If the lock is lost, the script must end here.
const INSIDE: &str = r#""$TORTURE" payload bound "$FILE" "$LOG" "$$"; echo end >>"$LOG""#;

/// A daemon that lives until the lock is free.
const DAEMON: &str = r#""$TORTURE" payload daemon "$FILE" "$LOG" &"#;

const TRAP: &str = "trap 'told=yes; echo told >>\"$LOG\"' TERM";

/// If the lock is lost, the script must get SIGTERM.
const TOLD: &str = r#""$TORTURE" payload probe "$FILE" "$LOG"
if grep -q without "$LOG"; then
    for ((i = 0; i < 500; i++)); do
        [[ -z ${told-} ]] || break
        sleep 0.01
    done
    [[ -n ${told-} ]] || echo "went on" >>"$LOG"
fi"#;

/// No signal follows a release.
const UNLOCK: &str = r#"echo releases >>"$LOG"
if aba_unlock_operation a; then
    echo released >>"$LOG"
    "$TORTURE" payload probe "$FILE" "$LOG"
fi"#;

fn run(place: &Place, script: &str) -> Call {
    Call::bash(&format!("source \"$LIBRARY\"\n{script}"))
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "a", "b", "--", "true"]);
    place
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&create_file(place).lock_file("a")));
    place
}

fn judge_next(place: &Place) -> Verdict {
    must(!place.read("log").contains("outlived"), "the lock outlived the script")?;
    must(becomes_free(&place.lock_file("a")), "the lock is still held")?;
    call_next(place, &["lock", "a", "b", "--", "true"])?;
    let is_lock = |name: &String| name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"));
    must(place.list_names("locks").iter().all(is_lock), format!("litter: {:?}", place.list_names("locks")))
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("went on"), format!("the script went on without the lock: {log}"))?;
    must(!log.contains("ended\nend\n"), "the script lost the lock, and went on")?;
    must(outcome.status != 0 || log == "inside\nend\n", format!("status 0, and it went so: {log:?}"))?;
    let untouched = log == "inside\nend\n" && [0, 137].contains(&outcome.status);
    must(outcome.hit.is_some() || untouched, format!("it went so: {log:?}"))?;
    judge_next(place)
}

fn judge_exec(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("went on"), "the program that replaced the script went on without the lock")?;
    must(outcome.hit.is_some() || log == "inside\n", format!("it went so: {log:?}"))?;
    judge_next(place)
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the script came inside while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    place.release_kept();
    judge_next(place)
}

fn judge_told(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("went on"), "the script lost the lock, and got no signal")?;
    must(outcome.hit.is_some() || log == "inside\n", format!("it went so: {log:?}"))?;
    judge_next(place)
}

fn judge_unlock(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("went on"), "the script lost the lock, and got no signal")?;
    let after = log.split_once("\nreleased\n").map_or("", |(_, after)| after);
    must(!after.contains("told"), "a signal came after the release")?;
    must(["", "inside without the lock\n"].contains(&after), "the lock was released, and is held")?;
    must(outcome.hit.is_some() || !after.is_empty(), format!("it went so: {log:?}"))?;
    judge_next(place)
}
