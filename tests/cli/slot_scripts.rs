//! `lock --slots N` for scripts: on their descriptors, and below a script that holds a slot.

use crate::scene::Scene;

#[test]
fn a_slot_on_a_descriptor_is_held_by_all_its_copies_until_it_is_released() {
    let scene = Scene::new();
    scene
        .bash(
            r#"
            exec 9<>"$("$HELPER" path --create job)"
            "$HELPER" lock --slots 1 --fd 9 job || exit
            exec 8<>"$("$HELPER" path job)"
            "$HELPER" lock --slots 1 --fd 8 job 2>/dev/null 9>&-
            echo "$?"
            sleep 1000 & sleeper=$!
            "$HELPER" unlock --fd 9 job
            "$HELPER" lock --slots 2 --fd 8 job && echo free
            kill "$sleeper"
            "#,
        )
        .out("75\nfree\n")
        .run();
}

#[test]
fn a_slot_that_a_subshell_took_on_a_descriptor_of_the_script_is_released_after_the_subshell_has_ended() {
    let scene = Scene::new();
    scene
        .bash(
            r#"
            exec 9<>"$("$HELPER" path --create job)"
            ("$HELPER" lock --slots 1 --fd 9 job; exit "$?") || exit
            "$HELPER" unlock --fd 9 job
            exec 8<>"$("$HELPER" path job)"
            "$HELPER" lock --slots 2 --fd 8 job 9>&- && echo free
            "#,
        )
        .out("free\n")
        .run();
}

#[test]
fn a_script_that_holds_a_slot_cannot_get_the_whole_lock_and_gets_the_reason() {
    let scene = Scene::new();
    let script = r#"
        exec 9<>"$("$HELPER" path --create job)"
        "$HELPER" lock --slots 3 --fd 9 job && "$HELPER" lock --fd 9 job
        "#;
    let said = "aba-lock: job is already held with --slots 3 by this script, and cannot become exclusive while it is held\n\
                hint: release it first, or acquire it without --slots from the start\n";
    assert_eq!(scene.bash(script).status(75).err(said).run().err, said);
}

#[test]
fn a_descriptor_that_is_only_open_for_reading_gets_no_slot_and_the_hint_is_to_open_it_for_writing() {
    let scene = Scene::new();
    let script = r#"exec 9<"$("$HELPER" path --create job)"; "$HELPER" lock --slots 3 --fd 9 job"#;
    let path = scene.lock_file("job").display().to_string();
    let said = format!(
        "aba-lock: cannot lock {path} with --slots: the file is not open for writing\n\
         hint: open it for reading and writing: `exec N<>{path}`\n"
    );
    scene.bash(script).status(125).err(said).run();
}

#[test]
fn a_nested_caller_that_has_inherited_nothing_waits_for_no_caller_that_waits_for_its_parent() {
    let scene = Scene::new();
    let (go, ends) = (scene.gate("go"), scene.gate("ends"));
    // A program such as sudo closes the descriptor and removes the variable.
    let nested = r#"env -u ABA_LOCK_FDS "$HELPER" lock -w --slots 2 job -- true 200>&-"#;
    let script = format!("aba_lock_operation --slots 2 job; echo ready >&2; read _ <{go}; {nested}");
    let parent = scene.bash_with_library(&script).err("").start();
    parent.wait_for_error("ready");
    let other = scene.holder_with(&["--slots", "2", "job"]);
    let wait = |args: &[&str]| scene.aba(["lock", "-w"]).args(args).err("").start();
    let command = format!("read _ <{ends}");
    let first = wait(&["--slots", "2", "job", "--", "sh", "-c", &command]);
    scene.wait_for_waiters("job", 1);
    let second = wait(&["--slots", "2", "job", "--", "true"]);
    scene.wait_for_waiters("job", 2);
    go.open();
    scene.wait_for_waiters("job", 3);
    let whole = wait(&["job", "--", "true"]);
    scene.wait_for_waiters("job", 4);
    other.release();
    ends.open();
    for call in [first, parent, whole, second] {
        assert!(!call.finish().err.contains("deadlock"));
    }
}
