//! `lock --replace` when it must not end the holder, when the system refuses something, and when it is killed at any step.

use crate::process::{is_alive, is_root, set_mode};
use crate::replace::{count_tickets, replace};
use crate::scene::{HELPER, Scene};
use std::process::Stdio;

#[test]
fn an_ancestor_is_never_ended() {
    let scene = Scene::new();
    // A lock that is handed down is shared with the ancestor.
    scene.aba(["lock", "job", "--", HELPER, "lock", "--replace", "job", "--", "echo", "nested"]).out("nested\n").run();
    let said = "aba-lock: refused to replace the holder of job: the script that calls this command, or a process that started it, ";
    let call = scene.aba(["lock", "-o", "job", "--", HELPER, "lock", "--replace", "job", "--", "echo", "not reached"]);
    call.status(75).err(format!("{said}holds the lock\nhint: release it in that script: ")).run();
    let nested = r#"exec 200<>"$("$HELPER" path --create job)"; "$HELPER" lock --fd 200 job; exec 201<>/proc/self/fd/200
        "$HELPER" lock --replace --fd 201 job; echo "$?" "$("$HELPER" status --fd 200 job)""#;
    scene.bash(nested).err(said).out("75 job: held, exclusive, through descriptor 200\n").run();
}

#[test]
fn a_holder_that_cannot_be_examined_or_signalled_is_not_ended() {
    let scene = Scene::new();
    let mut holder = scene.holder("job");
    let call = scene.strace(["-e", "inject=pidfd_send_signal:error=EPERM"]);
    let call = call.args([HELPER, "lock", "--replace", "job", "--", "echo", "not reached"]).status(75);
    call.err("refused to replace the holder of job: cannot send a signal to pid ")
        .err("\nhint: run this command as ")
        .run();
    if is_root() {
        set_mode(scene.root(), 0o1777);
        set_mode(scene.lock_file("job"), 0o666);
        let call = scene.unprivileged().args(["lock", "--replace", "job", "--", "echo", "not reached"]).status(75);
        call.err("refused to replace the holder of job: ").err("\nhint: end the holder as its user or as root").run();
    }
    let call = scene.in_mount_namespace().args([
        "sh",
        "-c",
        "mount -t tmpfs x /proc; exec \"$HELPER\" lock --replace job -- true",
    ]);
    call.status(125).err("/proc").run();
    assert!(is_alive(holder.pid()));
    holder.signal(15);
    holder.wait();
}

#[test]
fn a_helper_that_is_killed_while_it_replaces_leaves_no_lock_to_its_script() {
    let scene = Scene::new();
    for call in ["flock", "fcntl", "pidfd_open", "pidfd_send_signal", "pwrite64", "exit_group"] {
        for when in 1..=4 {
            let mut holder = scene.holder("job");
            let helper = format!("strace -o /dev/null -e inject={call}:signal=KILL:when={when} \"$HELPER\"");
            // The library closes the descriptor after a failure.
            let script = format!(
                "exec 200<>\"$(\"$HELPER\" path --create job)\"; {helper} lock -q --replace --fd 200 job || exec 200>&-
                 echo ready; read _"
            );
            let caller = scene.call("bash").args(["-c", &script]).hold();
            assert_eq!(count_tickets(&scene.lock_file("job")), 0, "{call} {when}");
            drop(caller);
            replace(&scene).args(["echo", "mine"]).out("mine\n").err("").run();
            holder.signal(9);
            holder.wait();
        }
    }
}

#[test]
fn a_newcomer_that_is_killed_at_any_system_call_leaves_a_usable_lock_and_no_ticket() {
    let scene = Scene::new();
    for call in ["fcntl", "flock", "pidfd_open", "pidfd_send_signal", "pwrite64", "execve", "/^(open)(at)?$", "close"] {
        for when in 1..=8 {
            let holder = scene.holder("job");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let mut command = scene.program("strace");
            command.args(["-o", "/dev/null", "-e", &inject, HELPER, "lock", "--replace", "job", "--", "true"]);
            let _ = command.stderr(Stdio::null()).status().unwrap();
            assert_eq!(count_tickets(&scene.lock_file("job")), 0, "{call} {when}");
            replace(&scene).args(["echo", "mine"]).out("mine\n").err("").run();
            drop(holder);
        }
    }
}

#[test]
fn a_failed_lock_of_a_ticket_or_stamp_is_reported() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    // A debug build makes the first call.
    for when in 2..=5 {
        let call = scene
            .strace(["-P"])
            .arg(scene.lock_file("job"))
            .args(["-e", &format!("inject=fcntl:error=EIO:when={when}")]);
        call.args([HELPER, "lock", "--replace", "job", "--", "true"]).status(125).err("cannot lock ").run();
        assert_eq!(count_tickets(&scene.lock_file("job")), 0);
    }
    let call = scene
        .bash("exec 200<\"$(\"$HELPER\" path --create job)\"; \"$HELPER\" lock --replace --fd 200 job")
        .status(125);
    let hint = format!("open it for reading and writing: `exec N<>{}`", scene.lock_file("job").display());
    call.err(format!(" with --replace: the file is not open for writing\nhint: {hint}\n")).run();
}

#[test]
fn the_stamp_ends_with_the_lock_of_a_script() {
    let scene = Scene::new();
    let file = scene.path("file").display().to_string();
    let script = format!(
        "exec 200<>{file}; \"$HELPER\" lock --replace --fd 200 --file {file}; \"$HELPER\" unlock --fd 200; flock 200; echo held; read _"
    );
    let holder = scene.call("bash").args(["-c", &script]).hold();
    let call = scene.aba(["lock", "--replace", "--file", &file, "--", "true"]).err("is not ended").start();
    call.wait_for_error("is not ended");
    assert_eq!(holder.release(), 0);
    call.finish();
}
