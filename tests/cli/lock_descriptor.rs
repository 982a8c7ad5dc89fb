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
    scene.bash(other).status(76).err("file descriptor 200 is not open on lock file").run();
    let other = "exec 200<>\"$(\"$HELPER\" path --create b)\"; \"$HELPER\" unlock --fd 200 a";
    scene.bash(other).status(76).err("is not open on lock file").run();
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

/// The ways in which a script opens a file for writing only.
const WRITE_ONLY: [&str; 2] = [">>", ">"];

#[test]
fn a_record_is_whole_and_alone_however_the_script_opened_the_file() {
    for redirection in ["<>", "<", ">>", ">"] {
        let scene = Scene::new();
        let script = format!(
            r#"
            file=$("$HELPER" path --create a)
            token=0
            for who in short "$(printf '%0500d' 7)" middle-sized x; do
                exec 200{redirection}"$file"
                flags=$(grep flags /proc/self/fdinfo/200)
                "$HELPER" lock --fd 200 --who "$who" a || exit 81
                [[ $(grep -c ^aba_lock_record= "$file") == 1 && $(tail -n 1 "$file") == token=* ]] || exit 82
                grep -qx "who=$who" "$file" && grep -qx "pid=$$" "$file" || exit 83
                [[ $(grep ^token "$file") != "token=$token" ]] || exit 84
                token=$(sed -n s/^token=//p "$file")
                "$HELPER" status --json a >"$ABA_LOCK_DIR/seen"
                grep -Eq "\"who\": ?\"$who\"" "$ABA_LOCK_DIR/seen" || exit 85
                grep -Eq '"holder": ?"alive"' "$ABA_LOCK_DIR/seen" || exit 86
                [[ $("$HELPER" list --held) == *" $$ "* ]] || exit 87
                [[ $(grep flags /proc/self/fdinfo/200) == "$flags" ]] || exit 88
                exec 200>&-
            done
            "#
        );
        scene.bash(&script).run();
    }
}

#[test]
fn foreign_data_is_kept_if_the_script_opened_the_file_for_appending() {
    let scene = Scene::new();
    scene.make_root();
    std::fs::write(scene.lock_file("a"), "mine\n").unwrap();
    scene.bash(r#"exec 200>>"$("$HELPER" path --create a)"; "$HELPER" lock --fd 200 a"#).run();
    assert_eq!(scene.record("a"), "mine\n");
}

#[test]
fn a_held_lock_is_recognized_on_a_descriptor_that_is_open_only_for_writing() {
    for redirection in WRITE_ONLY {
        let scene = Scene::new();
        let script = format!(
            r#"
            exec 200{redirection}"$("$HELPER" path --create a)"
            "$HELPER" lock --fd 200 -s a || exit 81
            before=$(<"$ABA_LOCK_DIR/aba-a.lock")
            "$HELPER" lock -q --fd 200 a; [[ $? == 75 ]] || exit 82
            [[ $before == "$(<"$ABA_LOCK_DIR/aba-a.lock")" ]] || exit 83
            bash -c '"$HELPER" lock --fd 200 -s a' || exit 84
            "#
        );
        scene.bash(&script).err("").run();
    }
}
