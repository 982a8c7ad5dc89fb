//! Inherited locks: a process shares the lock of a living ancestor, and of no other process.

use crate::process::{is_locked, wait_until};
use crate::scene::Scene;
use std::fs;

/// Starts a holder that ends, and two of its children that call the helper after that. Returns their exit statuses.
///
/// `lock` starts the holder; a script is added as its last argument. `ask` is the command of the children.
fn run_orphans(scene: &Scene, lock: &str, ask: &str) -> String {
    let (gate, output) = (scene.gate("holder-has-ended"), scene.path("statuses"));
    let orphans = format!(
        r#"ulimit -S -f unlimited
        for _ in 1 2; do {{ read -r _ <{gate}; {ask}; echo "$?" >>'{}'; }} >'{}' 2>&1 & done"#,
        output.display(),
        scene.path("noise").display()
    );
    let mut command = scene.program("bash");
    command.args(["-c", &format!("{lock} \"$1\""), "bash", &orphans]);
    let ended = command.current_dir(scene.path("")).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    // Both children have inherited the descriptor, so the lock stays held until both have ended.
    gate.open();
    gate.open();
    let answers = || fs::read_to_string(&output).unwrap_or_default();
    wait_until("both have asked", || answers().lines().count() == 2);
    answers()
}

#[test]
fn orphans_of_a_dead_holder_of_a_file_are_refused() {
    let scene = Scene::new();
    let answers =
        run_orphans(&scene, r#""$HELPER" lock --file data -- bash -c"#, r#""$HELPER" lock --file data -- true"#);
    assert_eq!(answers, "75\n75\n");
}

#[test]
fn orphans_of_a_dead_holder_without_a_record_are_refused() {
    let scene = Scene::new();
    // Because of the limit, no record can be written, as on a full file system.
    let lock = r#"ulimit -S -f 0; exec "$HELPER" lock -q a -- bash -c"#;
    assert_eq!(run_orphans(&scene, lock, r#""$HELPER" lock a -- true"#), "75\n75\n");
    assert_eq!(scene.record("a"), "");
}

#[test]
fn orphans_of_a_script_that_took_its_lock_on_a_descriptor_are_refused() {
    let scene = Scene::new();
    let lock = r#"exec 9<>data; "$HELPER" lock --file data --fd 9 || exit; bash -c"#;
    assert_eq!(run_orphans(&scene, lock, r#""$HELPER" lock --file data -- true"#), "75\n75\n");
    let lock = r#"exec 9<>"$("$HELPER" path --create a)"; "$HELPER" lock --fd 9 a || exit; bash -c"#;
    let scene = Scene::new();
    assert_eq!(run_orphans(&scene, lock, r#""$HELPER" lock a -- true"#), "75\n75\n");
}

#[test]
fn a_nested_call_succeeds_without_a_record() {
    let scene = Scene::new();
    let script = r#"ulimit -S -f 0
        "$HELPER" lock -q a -- "$HELPER" lock -n a -- "$HELPER" lock -n a -- true || exit
        exec 9<>"$("$HELPER" path --create b)"
        "$HELPER" lock -q --fd 9 b && "$HELPER" lock -q --fd 9 b || exit
        export ABA_LOCK_FDS=9
        "$HELPER" lock --fd 9 b && bash -c '"$HELPER" lock --fd 9 b && "$HELPER" lock b -- true'"#;
    scene.bash(script).err("the lock is held nevertheless").run();
}

#[test]
fn a_command_shares_the_lock_on_a_descriptor_of_its_script() {
    let scene = Scene::new();
    let script = r#"exec 9<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 9 a || exit
        "$HELPER" lock -n a -- bash -c 'echo "fds $ABA_LOCK_FDS"' || exit
        # Where something between it and its script hides that they wait for each other.
        timeout 60 "$HELPER" lock -w a -- "$HELPER" lock -n a -- true || exit
        "$HELPER" lock -n -o a -- bash -c '[[ -z $ABA_LOCK_FDS && ! -e /dev/fd/9 ]]' || exit
        "$HELPER" status -q --fd 9 a"#;
    scene.bash(script).out("fds 9\n").run();
    assert!(!is_locked(&scene.lock_file("a")));
    let script = r#"exec 9<>data; "$HELPER" lock --file data --fd 9 || exit
        "$HELPER" lock --file data -- true"#;
    scene.bash_here(script).run();
}

/// A script that does not know of `ABA_LOCK_FDS` opens the file of the lock that it has inherited again.
#[test]
fn a_script_that_inherited_the_lock_on_another_descriptor_is_granted_it() {
    let scene = Scene::new();
    let script = r#"exec 9<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 9 a && bash -c "$1" || exit
        "$HELPER" status -q --fd 9 a && echo held"#;
    let nested = r#"exec 8<>"$ABA_LOCK_DIR/aba-a.lock"
        "$HELPER" lock -w -t 60 --fd 8 a && "$HELPER" status -q --fd 8 a || exit
        bash -c '"$HELPER" lock --fd 8 a && "$HELPER" lock a -- true' || exit
        "$HELPER" unlock --fd 8 a"#;
    let call = |nested: &str| scene.call("bash").args(["-c", script, "bash", nested]);
    call(nested).out("held\n").run();
    // In a subshell, the helper is not a child of the holder.
    call(&format!("( {nested} )")).out("held\n").run();
    // The copy of the descriptor is closed, so the lock would end with the caller.
    call(&format!("exec 9<&-; {nested}")).status(75).err("waiting for a would be a deadlock").run();
    call(r#"exec 8<>"$ABA_LOCK_DIR/aba-a.lock"; exec 9<&-; ! "$HELPER" status -q --fd 8 a"#).out("held\n").run();
}

#[test]
fn a_script_that_holds_the_lock_itself_is_refused_on_another_descriptor() {
    let scene = Scene::new();
    let script = r#"exec 9<>"$("$HELPER" path --create a)" 8<>"$ABA_LOCK_DIR/aba-a.lock"
        "$HELPER" lock --fd 9 a || exit
        "$HELPER" lock -q --fd 8 a
        exit "$?""#;
    scene.bash(script).status(75).run();
}

#[test]
fn orphans_that_open_the_file_again_are_refused() {
    let scene = Scene::new();
    let lock = r#"exec 9<>"$("$HELPER" path --create a)"; "$HELPER" lock --fd 9 a && eval"#;
    let ask = r#"exec 8<>"$ABA_LOCK_DIR/aba-a.lock"; "$HELPER" lock -q --fd 8 a"#;
    assert_eq!(run_orphans(&scene, lock, ask), "75\n75\n");
}

#[test]
fn a_descriptor_that_is_open_but_not_locked_grants_nothing() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    scene.bash(r#"exec 9<>"$ABA_LOCK_DIR/aba-a.lock"; "$HELPER" lock -q a -- true"#).status(75).run();
}

#[test]
fn a_lock_of_the_script_is_not_held_through_another_descriptor_of_the_script() {
    let scene = Scene::new();
    let script = r#"exec 9<>"$("$HELPER" path --create a)"; "$HELPER" lock --fd 9 a || exit
        exec 8<>/proc/self/fd/9; "$HELPER" status --fd 8 a; exec "$HELPER" status --fd 8 a"#;
    let said = "a: not held through descriptor 8\n".repeat(2);
    scene.bash(script).out(&said).status(1).run();
}

#[test]
fn a_shared_lock_of_a_file_is_not_lost_when_it_cannot_be_made_exclusive() {
    let scene = Scene::new();
    let file = scene.path("data");
    let script = r#"exec 9<>"$1"; "$HELPER" lock -s --file "$1" --fd 9 || exit
        "$HELPER" lock -s --file "$1" -- "$HELPER" lock --file "$1" --fd 9; [[ $? == 75 ]] || exit 91
        "$HELPER" lock -t 0.05 --file "$1" --fd 9; [[ $? == 75 ]] || exit 92
        "$HELPER" status --file "$1" --fd 9 || exit
        (exec 9>&-; flock -n -E 7 "$1" true); [[ $? == 7 ]] || exit 93
        "$HELPER" unlock --fd 9 && "$HELPER" lock --file "$1" --fd 9 || exit
        # Asking for it shared does not weaken it.
        "$HELPER" lock -s --file "$1" --fd 9 && "$HELPER" status --file "$1" --fd 9"#;
    let command = scene.call("bash").args(["-c", script, "bash"]).arg(&file);
    let command = command.out("held, shared, through descriptor 9\n").out("held, exclusive, through descriptor 9\n");
    command.err("is already held shared by this script").err("hint: release it first").run();
}

#[test]
fn a_shared_lock_is_not_lost_if_the_record_names_another_holder() {
    let scene = Scene::new();
    let script = r#"exec 9<>"$("$HELPER" path --create a)"; "$HELPER" lock -s --fd 9 a || exit
        # The last record is that of a sharer that has ended, and another one shares still.
        (exec 9>&-; exec "$HELPER" lock -s a -- bash -c 'echo >in; read -r _ <out') &
        read -r _ <in
        (exec 9>&-; "$HELPER" lock -s a -- true) || exit
        "$HELPER" lock --fd 9 a; [[ $? == 75 ]] || exit 91
        ABA_LOCK_FDS=9 "$HELPER" lock --fd 9 a; [[ $? == 75 ]] || exit 92
        ABA_LOCK_FDS=9 "$HELPER" lock -s --fd 9 a || exit 93
        "$HELPER" status --fd 9 a; echo >out; wait"#;
    assert!(
        std::process::Command::new("mkfifo").args([scene.path("in"), scene.path("out")]).status().unwrap().success()
    );
    scene.bash_here(script).out("a: held, shared, through descriptor 9\n").err("a is already held shared").run();
}

/// A script that releases its lock, lets flock(1) in a child lock the same descriptor, and asks for the lock again. It prints
/// the exit status of that.
const RELEASE_SCRIPT: &str = r#"mkfifo in out
    exec 9<>"$1"; shift
    "$HELPER" lock --fd 9 "$@" && "$HELPER" unlock --fd 9 || exit 91
    (flock -n 9 || echo not locked; echo >in; read -r _ <out) &
    read -r _ <in
    "$HELPER" lock -q "$@" -- true; echo "$?"
    echo >out; wait"#;

#[test]
fn a_lock_that_another_program_took_on_a_released_descriptor_grants_nothing() {
    for name in [["--file", "data"].as_slice(), &["a"]] {
        let scene = Scene::new();
        scene.make_root();
        let file = if name.len() == 1 { scene.lock_file("a") } else { scene.path("data") };
        let command = scene.call("bash").current_dir(scene.path("")).args(["-c", RELEASE_SCRIPT, "bash"]).arg(&file);
        command.args(name).out("75\n").run();
    }
}

#[test]
fn a_lock_of_another_program_grants_nothing_inside_a_pid_namespace() {
    let scene = Scene::new();
    scene.make_root();
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let inside = |script: &str| {
        scene
            .call("unshare")
            .args(namespace)
            .current_dir(scene.path(""))
            .args(["bash", "-c", script, "bash"])
            .arg(scene.lock_file("a"))
            .arg("a")
    };
    inside(RELEASE_SCRIPT).out("75\n").run();
    // A lock that the script itself holds is inherited as usual.
    inside(r#"exec 9<>"$1"; "$HELPER" lock --fd 9 a && timeout 60 "$HELPER" lock a -- "$HELPER" lock a -- true"#).run();
}
