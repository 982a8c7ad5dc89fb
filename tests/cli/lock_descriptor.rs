//! `lock --fd` and `unlock --fd`: a script holds the lock on a descriptor after the helper has ended.

use crate::process::{is_locked, kill, wait_until};
use crate::scene::Scene;

#[test]
fn a_descriptor_of_the_script_holds_the_lock_after_the_helper_has_ended() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a || exit
        "$HELPER" status -q a || exit
        (exec 200>&-; "$HELPER" lock -q a -- true); [[ $? == 75 ]] || exit 91
        "$HELPER" status --fd 200 a || exit
        "$HELPER" unlock --fd 200 a || exit
        "$HELPER" lock a -- true || exit
        "$HELPER" status --fd 200 a; [[ $? == 1 ]]
    "#;
    let command = scene.bash(script).out("a: held, exclusive, through descriptor 200\n");
    command.out("a: not held through descriptor 200\n").run();
}

#[test]
fn the_record_names_the_script_and_not_the_helper() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 --who 'the "who"' a && echo $$
    "#;
    let said = scene.bash(script).out("").run();
    assert_eq!(scene.field("a", "pid"), said.out.trim());
    assert_eq!(scene.field("a", "who"), "'the \"who\"'");
    assert_eq!(scene.field("a", "mode"), "exclusive");
    let since = scene.field("a", "since");
    assert!(since.len() == 20 && since.ends_with('Z') && since.as_bytes()[10] == b'T', "{since}");
    for key in ["tick", "boot", "host", "ns", "user", "command", "locker", "token"] {
        assert!(!scene.field("a", key).is_empty());
    }
}

#[test]
fn locking_a_held_descriptor_again_changes_nothing() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a
        before=$(<"$ABA_LOCK_DIR/aba-a.lock")
        bash -c '"$HELPER" lock --fd 200 -s a' || exit
        [[ $before == "$(<"$ABA_LOCK_DIR/aba-a.lock")" ]] || exit 91
        # Asking for it shared must not have weakened it.
        (exec 200>&-; "$HELPER" lock -qs a -- true); [[ $? == 75 ]] || exit 92
    "#;
    scene.bash(script).run();
    let upgrade = r#"
        exec 200<>"$("$HELPER" path --create b)"
        "$HELPER" lock -s --fd 200 b && "$HELPER" lock --fd 200 b
    "#;
    scene.bash(upgrade).status(75).err("b is already held shared by this script").err("hint: release it first").run();
}

#[test]
fn closed_descriptors_and_those_of_other_files_have_their_own_statuses() {
    let scene = Scene::new();
    scene.bash("\"$HELPER\" lock --fd 200 a").status(125).err("file descriptor 200 is not open").run();
    scene.bash("\"$HELPER\" unlock --fd 200").status(125).err("file descriptor 200 is not open").run();
    let other = "exec 200<>\"$(\"$HELPER\" path --create b)\"; \"$HELPER\" lock --fd 200 a";
    scene.bash(other).status(76).err("file descriptor 200 is not, or no longer, open on lock file").run();
    let other = "exec 200<>\"$(\"$HELPER\" path --create b)\"; \"$HELPER\" unlock --fd 200 a";
    scene.bash(other).status(76).err("is not, or no longer, open on lock file").run();
}

#[test]
fn either_all_descriptors_are_locked_or_none() {
    let scene = Scene::new();
    let _holder = scene.holder("b");
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)" 201<>"$("$HELPER" path --create b)"
        "$HELPER" lock -q --fd 200 --fd 201 a b; [[ $? == 75 ]] || exit 91
        "$HELPER" lock a -- true
    "#;
    scene.bash(script).run();
}

#[test]
fn the_record_names_the_script_even_if_it_ends_during_the_call() {
    let scene = Scene::new();
    scene.make_root();
    // From the second getppid(2) on, the parent is another process.
    let strace = "strace -D -o /dev/null -e inject=getppid:retval=1:when=2+ -e trace=getppid";
    let text = format!("exec 9<>\"$1\"; {strace} \"$HELPER\" lock --fd 9 a; grep ^pid= \"$1\"; echo pid=$$");
    let said = scene.call("bash").args(["-c", &text, "bash"]).arg(scene.lock_file("a")).out("").run().out;
    let (recorded, script) = said.split_once('\n').unwrap();
    assert_eq!(recorded, script.trim_end());
}

#[test]
fn a_helper_stops_waiting_when_its_script_is_killed() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let script = r#"exec 200<>"$ABA_LOCK_DIR/aba-a.lock"; "$HELPER" lock -qw --fd 200 a; echo "$?""#;
    // Output to a file, because the helper would keep a pipe open.
    let script = format!("exec >{} 2>&1\n{script}", scene.path("output").display());
    let waiter = scene.bash(&script).status(137).start();
    scene.wait_for_waiter("a");
    kill(waiter.pid(), 9);
    waiter.finish();
    scene.wait_for_waiters("a", 0);
    assert!(is_locked(&scene.lock_file("a")), "the holder was not disturbed");
    drop(holder);
    wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
}

#[test]
fn two_descriptors_of_one_lock_are_refused() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)" 201<>"$("$HELPER" path --create a)"
        "$HELPER" lock -w --fd 200 --fd 201 a a
    "#;
    scene.bash(script).status(2).err("aba-lock: lock: the name a is given twice\n").run();
}
