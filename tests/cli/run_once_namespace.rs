//! Tasks where `/proc` shows other pids than those of the own PID namespace, or where it is missing.

use crate::call::Call;
use crate::process::write_program;
use crate::scene::Scene;

/// Strangers: a chain of unrelated processes. Each leads a session and is the parent of the next. They write down each SIGTERM,
/// and reply to SIGUSR1.
const STRANGER: &str = r"#!/bin/bash
trap 'echo $$ >>hits' TERM
trap 'echo $$ >>alive' USR1
if (($1 > 1)); then
    setsid ./stranger $(($1 - 1)) </dev/null &
fi
echo $$ >>strangers
echo $$ >here
while :; do
    read -r _
done <>never
";

/// `strangers N` starts N strangers. `expect_unharmed` checks that all of them live and that none was signalled.
const PRELUDE: &str = r#"
set -u
cd "$1"
mkfifo here never ready gate
exec 7<>here 8<>ready 9<>gate
total=0
strangers() {
    setsid ./stranger "$1" </dev/null 7>&- 8>&- 9>&- &
    for ((i = 0; i < $1; i++)); do
        read -r -t 60 _ <&7 || exit 90
    done
    ((total += $1))
}
expect_unharmed() {
    : >alive
    local pid i
    for pid in $(<strangers); do
        kill -USR1 "$pid" || { echo "stranger $pid is gone"; exit 91; }
    done
    for ((i = 0; i < 600; i++)); do
        [[ $(sort -u alive | wc -l) == "$total" ]] && break
        sleep 0.1
    done
    [[ $(sort -u alive | wc -l) == "$total" ]] || { echo "only $(sort -u alive | wc -l) strangers live"; exit 92; }
    [[ ! -e hits ]] || { echo "strangers were signalled: $(<hits)"; exit 93; }
}
# Usage: until_gone PID
until_gone() {
    local i
    for ((i = 0; i < 600; i++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "pid $1 lives"
    exit 94
}
"#;

/// Runs a bash script in a PID namespace with the `/proc` of the outer namespace, in which pids are small, too.
fn with_foreign_proc(scene: &Scene, script: &str) -> Call {
    write_program(&scene.path("stranger"), STRANGER);
    let outer = ["60", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let inner =
        ["unshare", "--pid", "--fork", "--kill-child", "--", "bash", "-c", &format!("{PRELUDE}{script}"), "bash"];
    scene.call("timeout").args(outer).args(inner).arg(scene.path(""))
}

#[test]
fn with_a_foreign_proc_an_interrupted_task_ends_only_its_own_processes() {
    let scene = Scene::new();
    let script = r#"
strangers 40
for round in 1 2 3; do
    "$HELPER" run-once -i a -- bash -c 'sleep 600 & echo $! >left; setsid sleep 600 & echo $! >>left; echo >ready
        read -r _ <gate; exit 130' || exit 80
    read -r -t 60 _ <&8 || exit 81
    strangers 20
    echo >gate
    "$HELPER" run-once -qw -i a -- true || { echo "status $?"; exit 82; }
    for pid in $(<left); do
        until_gone "$pid"
    done
    expect_unharmed
    "$HELPER" run-once -r -i a || exit 83
done
"#;
    with_foreign_proc(&scene, script).run();
}

#[test]
fn with_a_foreign_proc_the_processes_of_a_killed_supervisor_are_found() {
    let scene = Scene::new();
    let script = r#"
strangers 40
"$HELPER" run-once -i a -- bash -c '(trap "" TERM; echo $BASHPID >left; echo $PPID >supervisor; echo >ready; read -r _ <>never)
    exit' || exit 80
read -r -t 60 _ <&8 || exit 81
strangers 40
kill -KILL "$(<supervisor)"
until_gone "$(<supervisor)"
kill -0 "$(<left)" || { echo 'nothing is left'; exit 82; }
"$HELPER" run-once -qw -i a -- echo again || { echo "status $?"; exit 83; }
until_gone "$(<left)"
expect_unharmed
"#;
    with_foreign_proc(&scene, script).out("again\n").run();
}

#[test]
fn with_a_foreign_proc_a_reset_ends_a_task() {
    let scene = Scene::new();
    let script = r#"
strangers 20
"$HELPER" run-once -i a -- bash -c 'echo $$ >left; echo >ready; read -r _ <>never' || exit 80
read -r -t 60 _ <&8 || exit 81
strangers 20
"$HELPER" run-once -R -i a || exit 82
"$HELPER" run-once -r -i a || { echo "status $?"; exit 83; }
until_gone "$(<left)"
"$HELPER" run-once -p -i a && exit 84
expect_unharmed
"#;
    with_foreign_proc(&scene, script).run();
}

#[test]
fn the_processes_of_a_killed_supervisor_are_found_in_a_pid_namespace_below() {
    let scene = Scene::new();
    let script = r#"
export -f until_gone
unshare --pid --fork --kill-child --mount-proc -- bash -c '"$HELPER" run-once -i a -- bash -c "
        setsid sleep 600 >/dev/null 2>&1 & until [[ \$(</proc/\$!/comm) == sleep ]]; do :; done
        echo \$PPID >supervisor; echo >here; wait" || exit 80
    read -r -t 60 _ <&7 || exit 81
    kill -KILL "$(<supervisor)"; until_gone "$(<supervisor)"; echo >ready; read -r _ <gate' &
read -r -t 60 _ <&8 || exit 82
pgrep -x sleep || { echo 'nothing is left'; exit 83; }
"$HELPER" run-once -qw -i a -- echo again || { echo "status $?"; exit 84; }
if pgrep -x sleep; then exit 85; fi
"#;
    let script = format!("{PRELUDE}{script}");
    let words = ["60", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let call = scene.call("timeout").args(words).args(["bash", "-c", &script, "bash"]).arg(scene.path(""));
    call.out("again\n").run();
}

/// Runs a bash script where an empty directory hides `/proc`.
fn without_proc(scene: &Scene, script: &str) -> Call {
    let script = format!("mount -t tmpfs none /proc || exit 70\n{PRELUDE}{script}");
    scene
        .call("timeout")
        .args(["60", "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--"])
        .args(["bash", "-c", &script, "bash"])
        .arg(scene.path(""))
}

#[test]
fn without_proc_an_interrupted_task_runs_again_after_its_processes_ended() {
    let scene = Scene::new();
    let script = r#"
"$HELPER" run-once -i a -- bash -c 'sleep 600 & echo $! >left; echo >ready; read -r _ <gate; exit 130' || exit 80
read -r -t 60 _ <&8 || exit 81
echo >gate
"$HELPER" run-once -qw -i a -- echo again || { echo "status $?"; exit 82; }
until_gone "$(<left)"
"#;
    without_proc(&scene, script).out("again\n").run();
}

#[test]
fn a_task_started_without_proc_can_be_reset_with_proc() {
    let scene = Scene::new();
    let script = r#"
"$HELPER" run-once -i a -- bash -c 'echo $$ >left; echo >ready; exec sleep 600' || exit 80
read -r -t 60 _ <&8 || exit 81
umount /proc || exit 71
"$HELPER" run-once -r -i a || exit 82
until_gone "$(<left)"
"#;
    without_proc(&scene, script).run();
}

#[test]
fn without_proc_a_task_with_unknown_processes_is_not_run_again() {
    let scene = Scene::new();
    let script = r#"
"$HELPER" run-once -i a -- bash -c 'echo $PPID >supervisor; setsid sh -c "echo \$\$ >left; echo >ready; exec sleep 600" & wait' || exit 80
read -r -t 60 _ <&8 || exit 81
kill -KILL "$(<supervisor)"
until_gone "$(<supervisor)"
"$HELPER" run-once -qw -i a -- echo again
[[ $? == 125 ]] || exit 82
kill -0 "$(<left)" || exit 83
kill -KILL "$(<left)"
rm "$ABA_LOCK_DIR/runner/a/pid"
"$HELPER" run-once -qw -i a -- echo again || exit 84
"#;
    without_proc(&scene, script)
        .err("cannot run task a again: it was interrupted, and /proc does not show whether processes of that run still exist")
        .err("mount -t proc proc /proc")
        .out("again\n")
        .run();
}
